"""Model and features -> anomaly maps and image scores of the test images."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from tqdm import tqdm

from invad.anomaly_map import anomaly_map
from invad.config import BenchmarkConfig
from invad.datasets.images import read_mask
from invad.datasets.split_table import NORMAL, Split, SplitRow
from invad.devices import autocast, best_device, compiled, formatted, place
from invad.features import FeatureSource, open_features
from invad.model_folder import check_features, load_model
from invad.score_store import write_scores

__all__ = ["anomaly_map", "score_test_images"]


def score_test_images(benchmark: BenchmarkConfig, split: Split, features: Path, model: Path, out: Path) -> None:
    """Write anomaly maps (float32, raw), resized masks and image scores of all test images to the folder `out`.

    Raises:
        InputError: Features or model are missing or do not belong together, or the file of a mask is missing or damaged.
    """
    method, config = load_model(model)
    source = open_features(features, "test", split, benchmark.features)
    check_features(config, source.key, model)
    rows = split.phase("test")
    table = pa.table(
        {
            "image": [row.image for row in rows],
            "class": [row.class_name for row in rows],
            "label": pa.array([row.label for row in rows], pa.int8()),
            "defect_type": [row.defect_type for row in rows],
            "has_mask": [row.label == NORMAL or row.mask is not None for row in rows],
        }
    )
    with tqdm(total=len(rows), desc=f"score@{benchmark.name}", unit="image", mininterval=1) as progress:
        batches = _maps_and_masks(
            place(method, best_device(), benchmark.score), source, split, rows, benchmark, progress
        )
        write_scores(table, batches, out)


@torch.no_grad()
def _maps_and_masks(
    method: nn.Module,
    source: FeatureSource,
    split: Split,
    rows: Sequence[SplitRow],
    benchmark: BenchmarkConfig,
    progress: tqdm,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    device = next(method.parameters()).device
    size, config = benchmark.features.image_size, benchmark.score
    reconstruct = compiled(method, config)
    starts = range(0, len(rows), config.batch_size)
    batches = [range(start, min(start + config.batch_size, len(rows))) for start in starts]
    for batch, features in zip(batches, source.batches(batches, device), strict=True):
        features = formatted(features, config)
        with autocast(device, config.precision):
            reconstructions = reconstruct(features)
        maps = method.anomaly_map(features, reconstructions, size, config.sigma)
        yield maps.cpu().numpy(), np.stack([_resized_mask(split, rows[index], size) for index in batch])
        progress.update(len(batch))


def _resized_mask(split: Split, row: SplitRow, size: int) -> np.ndarray:
    path = split.mask_path(row)
    return np.zeros((size, size), dtype=bool) if path is None else read_mask(path, size)
