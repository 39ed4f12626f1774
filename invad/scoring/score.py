"""Model and features -> anomaly maps of a phase, and the scores of test and held-out images."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from tqdm import tqdm

from invad.config import BenchmarkConfig, ScoreConfig
from invad.data.images import read_mask
from invad.data.split_table import NORMAL, Phase, Split, SplitRow
from invad.devices import autocast, best_device, compiled, formatted, place
from invad.errors import InputError
from invad.features import FeatureSource, open_features
from invad.files import atomic_path
from invad.methods import Method
from invad.methods.maps import anomaly_map
from invad.scoring.store import CALIBRATION_FOLDER, write_scores
from invad.training.model_folder import check_features, load_model

__all__ = ["anomaly_map", "feature_maps", "phase_maps", "resized_masks", "score_images", "source_maps"]


def score_images(benchmark: BenchmarkConfig, split: Split, features: Path, model: Path, out: Path) -> None:
    """Write raw anomaly maps, resized masks and image scores, as `invad.scoring.store` has them.

    Those of the test images go to the folder `out`, those of the normal images held out for thresholds to the folder `calibration` in it.

    Raises:
        InputError: Features or model are missing or do not belong together, or the file of a mask is missing or damaged.
    """
    with atomic_path(out) as temporary:
        _score_phase(benchmark, split, "test", features, model, temporary)
        if split.phase("calibration"):
            _score_phase(benchmark, split, "calibration", features, model, temporary / CALIBRATION_FOLDER)


def _score_phase(
    benchmark: BenchmarkConfig, split: Split, phase: Phase, features: Path, model: Path, out: Path
) -> None:
    rows = split.phase(phase)
    table = pa.table(
        {
            "image": [row.image for row in rows],
            "class": [row.class_name for row in rows],
            "label": pa.array([row.label for row in rows], pa.int8()),
            "defect_type": [row.defect_type for row in rows],
            "has_mask": [row.label == NORMAL or row.mask is not None for row in rows],
        }
    )
    maps = phase_maps(benchmark, split, phase, features, model, label=f"score@{benchmark.name}, {phase}")
    write_scores(table, _with_masks(maps, split, rows, benchmark.features.image_size), out)


def phase_maps(
    benchmark: BenchmarkConfig, split: Split, phase: Phase, features: Path, model: Path, *, label: str
) -> Iterator[np.ndarray]:
    """Return the anomaly maps of all images of a phase: batches float32 (n, H, W) in the table's order, raw.

    Args:
        benchmark: Its settings of features and score.
        split: Its images.
        phase: Which of them.
        features, model: The folders that the stages `features` and `train` left.
        label: Names the progress bar.

    Raises:
        InputError: At once, when features or model are missing or do not belong together.
    """
    method, config = load_model(model)
    source = open_features(features, phase, split, benchmark.features)
    check_features(config, source.key, model)
    method = place(method, best_device(), benchmark.score)
    return source_maps(method, source, benchmark.features.image_size, benchmark.score, label=label)


@torch.no_grad()
def source_maps(
    method: Method, source: FeatureSource, size: int, config: ScoreConfig, *, label: str = ""
) -> Iterator[np.ndarray]:
    """Yield the anomaly maps of all images of a source: batches float32 (n, size, size) in its order, raw.

    Args:
        method: In eval mode and on its device, placed as `config` says.
        source: Its features.
        size: Of the maps in pixels.
        config: How maps are made.
        label: Names a progress bar; without it there is none.

    Raises:
        InputError: A map has a value that is NaN or infinite.
    """
    device = next(method.parameters()).device
    images = len(source)
    reconstruct = compiled(method, config)
    starts = range(0, images, config.batch_size)
    batches = [range(start, min(start + config.batch_size, images)) for start in starts]
    with tqdm(total=images, desc=label, unit="image", mininterval=1, disable=not label) as progress:
        for features in source.batches(batches, device):
            maps = feature_maps(method, reconstruct, features, size, config)
            values = maps.cpu().numpy()
            if not np.isfinite(values).all():
                raise InputError(
                    f"{label or 'anomaly maps'}: NaN or infinite; `precision: float32` helps where a lower one overflows"
                )
            yield values
            progress.update(len(values))


def feature_maps(
    method: Method,
    reconstruct: Callable[[Sequence[Tensor]], Sequence[Tensor]],
    features: Sequence[Tensor],
    size: int,
    config: ScoreConfig,
) -> Tensor:
    """Return the anomaly maps, float32 (B, size, size), of the features of a batch, float32 (B, C_l, H_l, W_l), fine to coarse.

    `reconstruct` is the method, compiled or as it is.
    """
    features = formatted(features, config)
    with autocast(features[0].device, config.precision):
        reconstructions = reconstruct(features)
    if config.map_levels == config.map_distance == "method":
        return method.anomaly_map(features, reconstructions, size, config.sigma)
    levels = "concatenated" if config.map_levels == "method" else config.map_levels
    distance = "cosine" if config.map_distance == "method" else config.map_distance
    return anomaly_map(features, reconstructions, size, config.sigma, levels=levels, distance=distance)


def _with_masks(
    maps: Iterable[np.ndarray], split: Split, rows: Sequence[SplitRow], size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each batch of maps with the masks of the same rows, bool (n, H, W)."""
    done = 0
    for batch in maps:
        batch_rows = rows[done : done + len(batch)]
        yield batch, resized_masks(split, batch_rows, size)
        done += len(batch)


def resized_masks(split: Split, rows: Sequence[SplitRow], size: int) -> np.ndarray:
    """Return the masks of rows, bool (n, size, size); an empty one where there is none.

    Raises:
        InputError: The file of a mask is missing or damaged.
    """
    paths = [split.mask_path(row) for row in rows]
    return np.stack([np.zeros((size, size), dtype=bool) if path is None else read_mask(path, size) for path in paths])
