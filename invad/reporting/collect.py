"""Read what the stages left on disk into `BenchmarkResult`s, the input of the report."""

from collections import Counter

import numpy as np

from invad.config import PUBLISHED_DATASETS, BenchmarkConfig
from invad.datasets.images import read_image
from invad.datasets.source import read_source
from invad.datasets.split_table import ANOMALOUS, Split
from invad.datasets.splits import open_split
from invad.files import read_json
from invad.reporting.heatmaps import Sample
from invad.reporting.labels import OWN
from invad.reporting.report import BenchmarkResult
from invad.reporting.selection import select_samples
from invad.score_store import Scores, open_scores
from invad.training.curve import read_curve
from invad.workspace import Workspace


def collect_result(benchmark: BenchmarkConfig, workspace: Workspace) -> BenchmarkResult:
    """Return everything that the report shows of one benchmark; `InputError` when a part is missing or damaged."""
    split = open_split(benchmark, workspace)
    scores = open_scores(workspace.scores(benchmark.name))
    return BenchmarkResult(
        name=benchmark.name,
        source=_source(benchmark, workspace),
        metrics=read_json(workspace.metrics(benchmark.name)),
        settings=_settings(benchmark, split),
        image_scores=scores.image_scores,
        labels=scores.labels,
        classes=scores.classes,
        samples=_samples(benchmark, split, scores),
        value_ranges=_value_ranges(scores),
        loss=[(step.step, step.loss) for step in read_curve(workspace.loss(benchmark.name))],
    )


def _source(benchmark: BenchmarkConfig, workspace: Workspace) -> str:
    return read_source(workspace.raw(benchmark.dataset)).source if benchmark.dataset in PUBLISHED_DATASETS else OWN


def _settings(benchmark: BenchmarkConfig, split: Split) -> dict[str, str]:
    features, train = benchmark.features, benchmark.train
    counts = Counter((row.phase, row.label) for row in split.rows)
    unknown = sum(row.phase == "test" and row.label == ANOMALOUS and row.mask is None for row in split.rows)
    return {
        "Model": train.model,
        "Encoder": f"{features.encoder}, {features.weights} weights",
        "Input size": f"{features.image_size} x {features.image_size} pixels",
        "Training": f"{train.epochs} epochs, batch {train.batch_size}, learning rate {train.learning_rate:g}, seed {train.seed}",
        "Classes": str(len({row.class_name for row in split.rows})),
        "Training images": f"{counts['train', 0]} normal"
        + (f", and {counts['calibration', 0]} held out for thresholds" if counts["calibration", 0] else ""),
        "Test images": f"{counts['test', 0]} normal, {counts['test', 1]} anomalous"
        + (f" ({counts['test', 1] - unknown} with a mask)" if unknown else ""),
    }


def _samples(benchmark: BenchmarkConfig, split: Split, scores: Scores) -> list[Sample]:
    rows = split.phase("test")
    chosen = select_samples(scores.classes, scores.labels.tolist(), scores.image_scores.tolist(), scores.defect_types)
    samples = []
    for index in chosen:
        anomaly_map, mask = scores.map_and_mask(index)
        samples.append(
            Sample(
                image=read_image(split.image_path(rows[index]), benchmark.features.image_size),
                mask=mask,
                anomaly_map=anomaly_map,
                score=float(scores.image_scores[index]),
                label=int(scores.labels[index]),
                class_name=scores.classes[index],
                defect_type=scores.defect_types[index],
                image_name=scores.images[index],
                has_mask=bool(scores.has_mask[index]),
            )
        )
    return samples


def _value_ranges(scores: Scores) -> dict[str, tuple[float, float]]:
    """Return the minimum and maximum of all maps of each class."""
    low = np.concatenate([maps.min(axis=(1, 2)) for maps in scores.maps_nhw])
    classes = np.array(scores.classes)
    return {
        name: (float(low[classes == name].min()), float(scores.image_scores[classes == name].max()))
        for name in sorted(set(scores.classes))
    }
