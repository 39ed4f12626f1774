"""SegAD (arXiv:2405.04953): maps of detectors -> statistics of segments -> a boosted random forest for each class -> image scores.

It learns from the labelled images alone, which the detectors have not seen, and has no maps of its own. One class has one forest, also
where a detector has one model for all classes.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from invad.config import BenchmarkConfig, LabelledConfig, SupervisedConfig
from invad.data.labelled import chosen_anomalous
from invad.data.split_table import ANOMALOUS
from invad.metrics.calibration import RunningThreshold
from invad.metrics.images import IMAGE_KEYS, image_values
from invad.metrics.protocol import means, plain, reasons
from invad.supervised.detections import Detections
from invad.supervised.forest import fit, margins, to_plain
from invad.supervised.model import FORMAT, ClassForest, SegADModel
from invad.supervised.segments import NO_SEGMENT, label_maps
from invad.supervised.statistics import feature_names, image_features

FEWEST_NORMAL = (
    7  # a leaf needs a weight of 1, and a tree sees 0.6 of the rows, each of 0.25, both kinds weighing the same
)


@dataclass(frozen=True)
class ClassImages:
    """The images of a class: `index` of the detections' rows (n,), labels, features (n, F), and the number of segments."""

    index: np.ndarray
    labels: np.ndarray
    features: np.ndarray
    segments: int


def train_segad(
    config: SupervisedConfig, detections: Detections, benchmark: BenchmarkConfig
) -> tuple[SegADModel, dict[str, Any]]:
    """Return the model of the first seed, and what all seeds give on the test images, as `reports/supervised/<name>.json` has it.

    `benchmark`: whose rate of false positives the thresholds are for. `InputError`: a label map is missing, or xgboost is.
    """
    classes = class_images(config, detections)
    labelled = getattr(benchmark.splits, "labelled", None) if config.redraw else None
    models, per_seed, baselines = [], [], defaultdict(list)
    for seed in config.seeds:
        training, test = _parts(detections, seed, labelled)
        model = _fitted(config, seed, classes, training, detections, benchmark.calibration.false_positive_rate)
        found = {name: model.scores(name, each.features) for name, each in classes.items()}
        own = {name: each.index for name, each in classes.items()}
        per_seed.append(
            {"seed": seed, **_measured(found, classes, test), **_at_thresholds(model, found, classes, test)}
        )
        for position, name in enumerate(detections.names):
            scores = detections.image_scores(position)
            of_class = {class_name: scores[index] for class_name, index in own.items()}
            baselines[name].append({"seed": seed, **_measured(of_class, classes, test)})
        models.append(model)
    forests = models[0].classes
    few = {name: each.normal for name, each in forests.items() if each.normal < FEWEST_NORMAL}
    return models[0], {
        "method": "segad",
        "detectors": list(detections.names),
        "segments": config.segments,
        "redraw": config.redraw,
        "labelled": {name: {"normal": each.normal, "anomalous": each.anomalous} for name, each in forests.items()},
        "per_seed": per_seed,
        "baselines": dict(baselines),
        "notes": [
            f"class {name!r}: with {normal} labelled normal image(s) hardly a tree splits; set `normal_share` higher"
            for name, normal in few.items()
        ],
    }


def class_images(config: SupervisedConfig, detections: Detections) -> dict[str, ClassImages]:
    """Return the features of all images, by class, sorted; the labelled ones say how many segments a class has."""
    maps_of = label_maps(config, detections.split, detections.size)
    segments: dict[str, int] = defaultdict(lambda: 1)
    for row in detections.split.phase("labelled"):
        found = maps_of(row)
        if (known := found[found != NO_SEGMENT]).size:
            segments[row.class_name] = max(segments[row.class_name], int(known.max()) + 1)
    index, features = defaultdict(list), defaultdict(list)
    for number, (row, maps) in enumerate(zip(detections.rows, detections.maps(), strict=True)):
        count = segments[row.class_name]
        index[row.class_name].append(number)
        features[row.class_name].append(image_features(maps, maps_of(row), count, maxima=config.maxima))
    labels = np.array([row.label for row in detections.rows])
    return {
        name: ClassImages(np.array(own), labels[own], np.array(features[name]), segments[name])
        for name, own in sorted(index.items())
    }


def _parts(detections: Detections, seed: int, redraw: LabelledConfig | None) -> tuple[np.ndarray, np.ndarray]:
    """Return which images a seed trains on and which it tests on, bool (N,) each; `redraw`: how it chooses anomalous ones of its own."""
    phases = np.array([row.phase for row in detections.rows])
    training, test = phases == "labelled", phases == "test"
    if redraw is not None:
        units: dict[str, set[str]] = defaultdict(set)  # of objects seen in several views all are drawn, or none
        for row in detections.rows:
            if row.label == ANOMALOUS:
                units[row.class_name].add(row.unit)
        drawn = {name: chosen_anomalous(sorted(all_of), replace(redraw, seed=seed)) for name, all_of in units.items()}
        for number, row in enumerate(detections.rows):
            if row.unit in units[row.class_name]:
                training[number] = row.unit in drawn[row.class_name]
                test[number] = not training[number]
    return training, test


def _fitted(
    config: SupervisedConfig,
    seed: int,
    classes: Mapping[str, ClassImages],
    training: np.ndarray,
    detections: Detections,
    rate: float,
) -> SegADModel:
    held_out = np.array([row.phase == "calibration" for row in detections.rows])
    chosen = {"rounds": config.rounds, "trees": config.trees, "learning_rate": config.learning_rate}
    forests = {}
    for name, images in classes.items():
        own = training[images.index]
        # Normal rows first, then the anomalous ones, as the authors have them.
        order = np.flatnonzero(own)[np.argsort(images.labels[own], kind="stable")]
        labels = images.labels[order]
        forest = fit(images.features[order], labels, seed=seed, **chosen)
        normal = images.features[held_out[images.index]]
        threshold = RunningThreshold(len(normal), rate)
        if len(normal):
            threshold.add(margins(forest, normal))
        columns = tuple(feature_names(len(detections.names), images.segments, maxima=config.maxima))
        anomalous = int(labels.sum())
        counts = len(labels) - anomalous, anomalous
        forests[name] = ClassForest(images.segments, columns, *counts, threshold.value, to_plain(forest))
    return SegADModel(FORMAT, detections.names, detections.size, config.segments, config.maxima, seed, forests)


def _measured(scores: Mapping[str, np.ndarray], classes: Mapping[str, ClassImages], test: np.ndarray) -> dict[str, Any]:
    """Return the metrics of the test images by class, their mean over the classes, and notes of what is not available."""
    values = {}
    for name, images in classes.items():
        own = test[images.index]
        values[name] = image_values(scores[name][own], images.labels[own])
    mean, left_out = means(values, IMAGE_KEYS, "mean")
    return {
        "per_class": {name: plain(each) for name, each in values.items()},
        "mean": plain(mean),
        "notes": [*reasons({f"class {name!r}": each for name, each in values.items()}), *left_out],
    }


def _at_thresholds(
    model: SegADModel, scores: Mapping[str, np.ndarray], classes: Mapping[str, ClassImages], test: np.ndarray
) -> dict[str, Any]:
    """Return of each class that has a threshold the shares of normal and of anomalous test images above it."""
    found = {}
    for name, images in classes.items():
        threshold, own = model.classes[name].threshold, test[images.index]
        if threshold is None:
            continue
        above, anomalous = scores[name][own] > threshold, images.labels[own] == ANOMALOUS
        shares = {"fpr": above[~anomalous], "recall": above[anomalous]}
        found[name] = {key: float(each.mean()) if each.size else None for key, each in shares.items()}
    return {"at_thresholds": found}
