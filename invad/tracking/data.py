"""The data sets of a run, as its inputs in MLflow."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag

from invad.config import BenchmarkConfig
from invad.data.split_table import Split

_PHASES = ("train", "calibration", "test")


def data_sets(split: Split, benchmark: BenchmarkConfig, source: str) -> list[dict[str, Any]]:
    """Return the images of each phase as a data set: name, digest, source, counts of images and classes; a phase without any has none.

    source: `embedded`, `path` or `official`.
    """
    from invad.features.source import split_sha256  # with torch

    found = []
    for phase in _PHASES:
        rows = split.phase(phase)
        if not rows:
            continue
        digest = split_sha256(rows, split.reading)
        images = Counter(row.class_name for row in rows)
        profile = {
            "images": len(rows),
            "anomalous": sum(row.label for row in rows),
            "classes": len(images),
            "images_per_class": dict(sorted(images.items())),
            "sha256": digest,
        }
        found.append(
            {
                "name": f"{benchmark.name}/{phase}",
                "digest": digest[:32],  # MLflow takes 36 characters
                "source_type": source,
                "source": json.dumps({"dataset": benchmark.dataset, "source": source}),
                "profile": json.dumps(profile, ensure_ascii=False),
                "context": phase,
            }
        )
    return found


def as_input(value: Mapping[str, Any]) -> DatasetInput:
    """Return a data set as MLflow takes it."""
    plain = {name: item for name, item in value.items() if name != "context"}
    return DatasetInput(Dataset(**plain), [InputTag("mlflow.data.context", value["context"])])
