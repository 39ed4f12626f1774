"""How a model of one's own images is trained: long enough for their number, and as large as the machine allows."""

import math
from typing import Any

from invad.config import BenchmarkConfig

# Optimiser steps below which maps are not worth a threshold. The quick run's 20 epochs of 24 images are 60.
LEAST_STEPS = {"cpu": 600, "gpu": 3000}
GPU_SIDE = 256  # pixels of the published recipe
KEPT, MOST_KEPT = 30, 1 / 3  # images of a class to take thresholds from, and the share that they may be


def recipe(images: int, like: BenchmarkConfig, *, gpu: bool, classes: int = 1) -> dict[str, dict[str, Any]]:
    """Return what is set otherwise than in the benchmark `like`, as sections of plain values.

    `images`: normal ones of all `classes` to train on, those that calibration will keep included. What `like` has more of stays.
    """
    share = round(min(MOST_KEPT, max(like.calibration.share or 0.1, KEPT * classes / images)), 2)
    left = max(1, images - max(classes, round(share * images)))
    batch_size = min(like.train.batch_size, left)
    epochs = max(like.train.epochs, math.ceil(LEAST_STEPS["gpu" if gpu else "cpu"] / (left // batch_size)))
    sections: dict[str, dict[str, Any]] = {"calibration": {"share": share}, "train": {"epochs": epochs}}
    if batch_size < like.train.batch_size:
        rate = like.train.learning_rate * batch_size / like.train.batch_size
        sections["train"] |= {"batch_size": batch_size, "learning_rate": rate}
    side = like.features.image_size
    if gpu and side < GPU_SIDE:
        sections |= {"features": {"image_size": GPU_SIDE}, "score": {"sigma": "method"}}
    return sections


def recipe_notes(benchmark: BenchmarkConfig, images: int, held_out: int, *, gpu: bool) -> list[str]:
    """Return what to say of a benchmark's recipe: what it is, what comes of it, what else there is.

    `images` to train on, `held_out` for thresholds.
    """
    train, name = benchmark.train, benchmark.settings
    if train.batch_size > images:
        return [
            f"params.yaml: train.{name}.batch_size: lower it, {train.batch_size} is more than the {images} to train on"
        ]
    steps = train.epochs * (images // train.batch_size)
    size = benchmark.features.image_size
    notes = [
        f"recipe for {images} images on {'a GPU' if gpu else 'a CPU'}: {train.epochs} epochs of {train.model} at {size} pixels, "
        f"{steps} steps; --like takes another benchmark's, `invad-pipe profile list` names the published ones, "
        "and `model: patchcore` trains nothing",
    ]
    if held_out:
        notes.append(
            f"params.yaml: calibration.{name}.share: keeps {held_out} images for thresholds; about 1 in {held_out + 1} normal images will "
            f"lie above them, fewer with more images"
        )
    return notes
