"""What a method finds in the test images of a split, for the tests that ask for more than a broken one would find."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from toys import CPU

from invad.config import FeaturesConfig, ScoreConfig
from invad.data.split_table import Split
from invad.devices import place
from invad.features import open_features
from invad.features.batches import batch_source
from invad.methods import Method
from invad.metrics import evaluate
from invad.scoring.score import predictions, resized_masks

SCORE = ScoreConfig(batch_size=32)


@dataclass(frozen=True)
class Found:
    """What a method says of the test images: anomaly maps (N, H, W), image scores (N,)."""

    maps: np.ndarray
    scores: np.ndarray

    def elsewhere(self) -> "Found":
        """The same maps and scores, each for another image."""
        order = np.random.default_rng(0).permutation(len(self.scores))
        return Found(self.maps[order], self.scores[order])


def find(method: Method, split: Split, features: Path, config: FeaturesConfig) -> Found:
    source = open_features(features, "test", split, config)
    batches = batch_source(source, method.needs, split, "test", config)
    parts = zip(*predictions(place(method.eval(), CPU, SCORE), batches, SCORE), strict=True)
    return Found(*(np.concatenate(part) for part in parts))


def below(floors: dict[str, float], found: Found, split: Split, config: FeaturesConfig) -> set[str]:
    """The metrics that are below their floors, in percent."""
    rows = split.phase("test")
    masks, labels = resized_masks(split, rows, config.image_size), [row.label for row in rows]
    classes = [row.class_name for row in rows]
    mean = evaluate(found.maps, masks, classes, labels, found.scores, "exact")["mean"]["exact"]
    return {key for key, floor in floors.items() if 100 * mean[key] < floor}
