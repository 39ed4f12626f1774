"""The stages `features` and `score` as the pipeline runs them, and part by part in a loop that does one thing after the other."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from workload import Stopwatch, Workload

from invad.config import FeaturesConfig, Precision
from invad.data.images import read_image, read_mask
from invad.data.split_table import Split
from invad.devices import autocast, place
from invad.features import FeatureStore, extract_features, store
from invad.features.batches import Batch
from invad.features.encoder import build_encoder, normalize
from invad.features.extract import Extraction, Run, Shard
from invad.features.source import feature_key
from invad.methods.maps import gaussian_blur
from invad.scoring.score import blur_sigma, score_images, sharp
from invad.scoring.store import write_scores
from invad.training.model_folder import load_model

BATCHES_PER_SHARD = 4  # few, so that several workers have several shards each


def extract_plainly(work: Workload, precision: Precision) -> dict[str, float]:
    """Extract in a plain loop; return the seconds of its start, which builds the encoder, and of its parts."""
    watch, split, config = Stopwatch(work.device), work.extracted, work.features(precision)
    key, images = feature_key(split, "train", config, work.encoder), [row.image for row in split.rows]
    with TemporaryDirectory(dir=work.folder) as folder:
        for rows, levels in zip(work.batches(split), _encode(work, split, config, watch), strict=True):
            with watch.part("writing"):
                path = Path(folder) / store.shard_name("train", rows.start)
                store.write_shard(path, key, images[rows.start : rows.stop], [[level.cpu() for level in levels]])
    return watch.seconds


def extract_as_stage(work: Workload, precision: Precision, run: Run, workers: int) -> dict[str, float]:
    """Extract as the stage does with `run`; return the seconds of its start, known from one image for each worker, and of the rest."""
    watch, config = Stopwatch(work.device), work.features(precision)
    with TemporaryDirectory(dir=work.folder) as folder, patch.object(store, "SHARD_BYTES", _shard_bytes(work, config)):
        with watch.part("start"):
            single = [Shard("train", number, number, number + 1) for number in range(workers)]
            list(run(Extraction(work.extracted, config, folder), single))
        with watch.part("all"):
            extract_features(work.extracted, config, Path(folder) / "features", run)
    start = watch.seconds["start"]
    return {"start": start, "rest": watch.seconds["all"] - start}


def score_as_stage(work: Workload, precision: Precision, live: bool) -> dict[str, float]:
    """Score as the stage does, with features that are stored or live; return its seconds."""
    watch, benchmark = Stopwatch(work.device), work.benchmark(precision, live)
    features = work.features_folder(benchmark.features)
    with watch.part("all"), TemporaryDirectory(dir=work.folder) as folder:
        score_images(benchmark, work.scored, features, work.model, Path(folder) / "scores")
    return watch.seconds


@torch.no_grad()
def score_plainly(work: Workload, precision: Precision, live: bool) -> dict[str, float]:
    """Score in a plain loop; return the seconds of its start, which loads the model and builds a live encoder, and of its parts."""
    watch, split, benchmark = Stopwatch(work.device), work.scored, work.benchmark(precision, live)
    size, source = benchmark.features.image_size, _encode if live else _read
    with watch.part("start"):
        method = place(load_model(work.model)[0], work.device, benchmark.score)
    scored = []
    for rows, levels in zip(work.batches(split), source(work, split, benchmark.features, watch), strict=True):
        with watch.part("method"):
            maps, _ = sharp(method, method.predict, Batch(tuple(levels)), benchmark.score)
        with watch.part("blur"):
            maps = gaussian_blur(maps, blur_sigma(method, benchmark.score))
            scores = maps.amax(dim=(1, 2)).cpu().numpy()
        with watch.part("masks"):
            paths = [split.mask_path(split.rows[row]) for row in rows]
            empty = np.zeros((size, size), dtype=bool)
            masks = np.stack([empty if path is None else read_mask(path, size) for path in paths])
            scored.append((maps.cpu().numpy(), masks, scores))
    with watch.part("writing"), TemporaryDirectory(dir=work.folder) as folder:
        write_scores(_score_table(split), scored, Path(folder) / "scores")
    return watch.seconds


def _shard_bytes(work: Workload, config: FeaturesConfig) -> int:
    values = sum(int(np.prod(shape)) for shape in work.output.shapes)
    return BATCHES_PER_SHARD * config.batch_size * values * np.dtype(config.dtype).itemsize


def _encode(work: Workload, split: Split, config: FeaturesConfig, watch: Stopwatch) -> Iterator[list[Tensor]]:
    """Yield each batch's features on the device, timed as `decode` and `encoder`."""
    with watch.part("start"):
        encoder = place(build_encoder(config.encoder, config.weights), work.device, config)
    for rows in work.batches(split):
        with watch.part("decode"):
            paths = [split.image_path(split.rows[row]) for row in rows]
            images = torch.from_numpy(np.stack([read_image(path, config.image_size) for path in paths]))
        with watch.part("encoder"), autocast(work.device, config.precision):
            levels = [level.float() for level in encoder(normalize(images.to(work.device)))]
        yield levels


def _read(work: Workload, split: Split, config: FeaturesConfig, watch: Stopwatch) -> Iterator[list[Tensor]]:
    """Yield each batch's stored features on the device, timed as `reading`."""
    folder = work.features_folder(config)
    with watch.part("start"):
        features = FeatureStore(folder, "test")
    for rows in work.batches(split):
        with watch.part("reading"):
            levels = [level.to(work.device).float() for level in features.batch(rows)]
        yield levels


def _score_table(split: Split) -> pa.Table:
    rows = split.rows
    return pa.table(
        {
            "image": [row.image for row in rows],
            "class": [row.class_name for row in rows],
            "label": pa.array([row.label for row in rows], pa.int8()),
            "defect_type": [row.defect_type for row in rows],
            "has_mask": [True] * len(rows),
        }
    )
