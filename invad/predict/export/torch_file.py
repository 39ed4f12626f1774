"""torch.export: a traced graph as the bytes of a `.pt2` archive."""

import io
import json
import warnings
from collections.abc import Mapping

import torch
from torch.export import ExportedProgram

METADATA_FILE = "metadata.json"  # among the archive's extra files


def torch_bytes(program: ExportedProgram, metadata: Mapping[str, str]) -> bytes:
    """Return the file of a traced graph: its weights, and `METADATA_FILE` with all metadata as one JSON object."""
    values = {key: json.loads(value) for key, value in metadata.items()}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of weights in its own memory format channels_last, which it keeps
        torch.export.save(
            program, buffer, extra_files={METADATA_FILE: json.dumps(values, indent=2, ensure_ascii=False)}
        )
    return buffer.getvalue()
