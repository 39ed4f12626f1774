"""ONNX Runtime in the place of PyTorch, on a CPU: the graph of `invad-pipe export`, made once for a model and kept in the user's cache.

What is kept is used only where its file is whole, and was made of the same weights and settings by the same code and versions.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from invad.config import ScoreConfig
from invad.errors import InputError
from invad.files import atomic_path
from invad.training.model_folder import ModelConfig
from invad.workspace import WEIGHTS_FILE

Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]  # scores (B,) and maps (B, S, S)
Runtime = Callable[[NDArray[np.uint8]], Outputs]  # of images (B, S, S, 3)

IMAGES, SCORES, MAPS = "images", "scores", "maps"  # of a graph
TOLERANCE = 1e-4  # of scores and maps, times the largest value of the maps
MANY = 500  # images that are worth the making of a graph: about where the time it takes is won back
MOST_BYTES = 2_000_000_000  # of all that is kept; what was used last stays


@dataclass(frozen=True)
class Difference:
    """How far a graph in another runtime is from its model."""

    images: int  # that it was compared on
    maps: float  # the largest absolute difference of the maps' pixels
    scores: float  # the largest absolute difference
    most: float  # of maps and scores for rounding

    @property
    def is_rounding(self) -> bool:
        """Whether scores and maps differ by no more than rounding; never where one of them is no number."""
        return self.maps <= self.most and self.scores <= self.most

    def __str__(self) -> str:
        return f"maps differ by {self.maps:.2g}, scores by {self.scores:.2g}, which is more than {self.most:.2g}"


def compare(model: Runtime, export: Runtime, batches: Iterable[NDArray[np.uint8]], least: float = 1.0) -> Difference:
    """Run a model and its export on batches of images, uint8 (B, S, S, 3).

    `TOLERANCE` times the largest absolute value of the model's maps, or `least` where that is more, may lie between them.
    """
    pairs = [(*model(batch), *export(batch)) for batch in batches]
    scores, maps, other_scores, other_maps = (
        np.concatenate(parts).astype(np.float64) for parts in zip(*pairs, strict=True)
    )
    most = TOLERANCE * max(least, float(np.abs(maps).max()))
    of_maps, of_scores = float(np.abs(maps - other_maps).max()), float(np.abs(scores - other_scores).max())
    return Difference(len(scores), of_maps, of_scores, most)


def onnx_runtime(data: bytes) -> Runtime:
    """Return a file that ONNX Runtime runs on the CPU, with as many threads as torch has; `ModuleNotFoundError` where it is missing."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that spin between two images take the cores from those that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def run(images_bhwc: NDArray[np.uint8]) -> Outputs:
        scores, maps = session.run([SCORES, MAPS], {IMAGES: images_bhwc})
        return np.asarray(scores), np.asarray(maps)

    return run


class Kept(NamedTuple):
    """A graph, the bytes of an ONNX file; or the reason why there is none."""

    graph: bytes
    refused: str = ""


def kept_runtime(folder: Path, config: ModelConfig, score: ScoreConfig, make: Callable[[], Kept]) -> Runtime:
    """Return ONNX Runtime with the graph of a model folder: one that was kept, or what `make` makes now.

    `InputError`: there can be none. `ModuleNotFoundError`: a package is missing that runs or, where none is kept, makes it.
    """
    described = _described(folder, config, score)
    path = cache_folder() / f"{hashlib.sha256(described).hexdigest()}.graph"
    kept = _read(path, described)
    if kept is None:
        kept = make()
        _write(path, described, kept)
    if kept.refused:
        raise InputError(kept.refused)
    return onnx_runtime(kept.graph)


def cache_folder() -> Path:
    """Return where graphs are kept, `$XDG_CACHE_HOME/invad/onnx` or below `~/.cache`; whoever removes it loses nothing but time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "invad" / "onnx"  # noqa: PTH111  (raises without a home)


def _described(folder: Path, config: ModelConfig, score: ScoreConfig) -> bytes:
    """Return all that decides on a graph, one line of JSON."""
    import onnxruntime

    code = hashlib.sha256()
    package = Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        code.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    with (folder / WEIGHTS_FILE).open("rb") as stream:
        weights = hashlib.file_digest(stream, "sha256").hexdigest()
    of = {
        "versions": [torch.__version__, version("timm"), onnxruntime.__version__],
        "code": code.hexdigest(),
        "model": weights,
        "config": asdict(config),
        "score": asdict(score),
    }
    return json.dumps(of, sort_keys=True).encode()


def _read(path: Path, described: bytes) -> Kept | None:
    """Return what a file holds; None where there is none, or it is damaged or about something else."""
    try:
        digest, _, payload = path.read_bytes().partition(b"\n")
        if digest != hashlib.sha256(payload).hexdigest().encode():
            return None
        of, refused, graph = payload.split(b"\n", 2)
        os.utime(path)  # what was used last stays
    except (OSError, ValueError):
        return None
    return Kept(graph, refused.decode()) if of == described else None


def _write(path: Path, described: bytes, kept: Kept) -> None:
    """Keep a graph, and remove those beyond `MOST_BYTES` that were not used for longest; nothing happens where nobody may write."""
    if not path.is_absolute():  # nobody's home
        return
    payload = b"\n".join((described, kept.refused.encode(), kept.graph))
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
        room = MOST_BYTES
        for other in sorted(path.parent.iterdir(), key=lambda each: each.stat().st_mtime, reverse=True):
            room -= other.stat().st_size
            if room < 0 and other != path:
                other.unlink()
    except OSError:
        return
