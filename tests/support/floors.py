"""What a method finds in the test images of a split, for the tests that ask for more than a broken one would find."""

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


def below(
    floors: dict[str, float],
    method: Method,
    split: Split,
    features: Path,
    config: FeaturesConfig,
    order: np.ndarray | None = None,
) -> set[str]:
    """The metrics that are below their floors, in percent; `order`: of the images whose maps and scores are taken."""
    source = open_features(features, "test", split, config)
    batches = batch_source(source, method.needs, split, "test", config)
    parts = zip(*predictions(place(method.eval(), CPU, SCORE), batches, SCORE), strict=True)
    maps, scores = (np.concatenate(part)[slice(None) if order is None else order] for part in parts)
    rows = split.phase("test")
    masks, labels = resized_masks(split, rows, config.image_size), [row.label for row in rows]
    found = evaluate(maps, masks, [row.class_name for row in rows], labels, scores, "exact")["mean"]["exact"]
    return {key for key, floor in floors.items() if 100 * found[key] < floor}
