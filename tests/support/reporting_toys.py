"""Small results for the tests of the report."""

from dataclasses import replace

import numpy as np
from conftest import profile_params

from invad import metrics
from invad.config import BenchmarkConfig
from invad.metrics.calibration import operating_point
from invad.report.results import Cost, Counts, Picture, Result, TestImages

SIDE = 64  # of the full-size maps; those of the pictures are a quarter of it
IMAGES = 8  # of each class, the second half anomalous


def toy_config(name: str = "mvtec", profile: str = "quick", **train: object) -> BenchmarkConfig:
    """The settings of a benchmark of a profile (`quick`, `paper`, `paper-lite`); train: other values of its section `train`."""
    config = profile_params(profile).benchmarks[name]
    return replace(config, train=replace(config.train, **train))


def toy_result(
    name: str = "mvtec",
    source: str = "embedded",
    seeds: tuple[int, ...] = (42,),
    classes: tuple[str, ...] = ("metal_nut", "wood"),
    profile: str = "quick",
    counts: Counts | None = None,
    label: str = "",
    key: str = "",
    offset: float = 0.7,
    **train: object,
) -> Result:
    """A result whose numbers were really computed, from random maps that are `offset` higher inside the masks."""
    evaluated, first = {}, None
    for seed in seeds:
        maps, masks, labels, scores = toy_maps(len(classes), seed, offset)
        names = [class_name for class_name in classes for _ in range(IMAGES)]
        content = dict(metrics.evaluate(maps, masks, names, labels, scores, curves=True))
        first = first or (maps, masks, labels, scores, content.pop("curves"))
        content.pop("curves", None)
        thresholds = {class_name: metrics.calibration.Thresholds(1.6, 1.5) for class_name in classes}
        has_mask = np.ones(len(maps), bool)
        point = operating_point([maps], [masks], names, labels, scores, has_mask, thresholds, without="")
        content["operating_point"] = {
            "false_positive_rate": 0.01,
            "held_out_images": dict.fromkeys(classes, 4),
            **point,
        }
        evaluated[seed] = {"benchmark": name, **content}
    maps, masks, labels, scores, curves = first
    generator = np.random.default_rng(0)
    images = generator.integers(60, 200, (len(maps), SIDE, SIDE, 3)).astype(np.uint8)
    images[..., 0] = (200 * masks + 40 * ~masks).astype(np.uint8)
    low, high = (
        {c: float(f(maps[i * IMAGES : (i + 1) * IMAGES])) for i, c in enumerate(classes)} for f in (np.min, np.max)
    )
    return Result(
        config=toy_config(name, profile, **({"seed": seeds[0]} | train)),
        source=source,
        metrics_by_seed=evaluated,
        cost=Cost(3_000_000, 1_200_000, 2_000_000_000),
        counts=counts
        or Counts(
            len(classes),
            36 * len(classes),
            4 * len(classes),
            4 * len(classes),
            4 * len(classes),
            0,
            float(masks.mean()),
        ),
        tests=TestImages(
            names=[
                f"{c}/test/{'bad' if i >= IMAGES // 2 else 'good'}/{i:03d}.png" for c in classes for i in range(IMAGES)
            ],
            classes=names,
            defect_types=["scratch" if i >= IMAGES // 2 else "good" for _ in classes for i in range(IMAGES)],
            labels=labels.astype(np.int8),
            has_mask=np.ones(len(maps), bool),
            image_scores=scores.astype(np.float32),
            maps=maps.reshape(len(maps), SIDE // 4, 4, SIDE // 4, 4).mean(axis=(2, 4)).astype(np.float16),
            value_ranges={c: (low[c], high[c]) for c in classes},
            pictures={index: Picture(images[index], masks[index]) for index in range(len(maps))},
        ),
        curves=curves,
        label=label,
        key=key,
    )


def toy_learning(result: Result, epochs: tuple[float, ...] = (2.5, 5, 10)) -> Result:
    """The result with evaluations of all its seeds after these epochs, the last of which is the result itself."""
    learning = [
        {"seed": seed, "step": round(30 * epoch), "epoch": epoch, "mean": _scaled(content["mean"], epoch / epochs[-1])}
        for seed, content in result.metrics_by_seed.items()
        for epoch in epochs
    ]
    return replace(result, learning=learning)


def _scaled(means: dict, share: float) -> dict:
    """Means over the classes that rise from 0.7 of what they are."""
    return {
        protocol: {key: value if value is None else value * (0.7 + 0.3 * share) for key, value in values.items()}
        for protocol, values in means.items()
    }


def toy_intervals(result: Result, half: float = 0.02) -> Result:
    """The result with intervals of +- `half` around its means and classes."""

    def around(values: dict) -> dict:
        return {key: [value - half, value + half] for key, value in values.items() if value is not None}

    by_seed = {}
    for seed, content in result.metrics_by_seed.items():
        classes = {name: around(values["exact"]) for name, values in content["per_class"].items()}
        intervals = {"per_class": classes, "mean": around(content["mean"]["exact"])}
        by_seed[seed] = {**content, "intervals": {**intervals, "replicates": 1000, "confidence": 0.95, "seed": 0}}
    return replace(result, metrics_by_seed=by_seed)


def toy_maps(classes: int, seed: int, offset: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Maps float32 (N, SIDE, SIDE), masks bool, labels and image scores of `classes` times IMAGES images."""
    generator = np.random.default_rng(seed)
    total = classes * IMAGES
    coarse = generator.normal(0.5, 0.3, (total, SIDE // 8, SIDE // 8)).clip(0)
    maps = coarse.repeat(8, axis=1).repeat(8, axis=2) + generator.normal(0, 0.05, (total, SIDE, SIDE))
    masks = np.zeros(maps.shape, bool)
    labels = np.arange(total) % IMAGES >= IMAGES // 2
    for index in np.flatnonzero(labels):
        y, x = generator.integers(8, SIDE - 24, 2)
        masks[index, y : y + 14, x : x + 16] = True
    maps += offset * masks * generator.uniform(0.3, 1.2, (total, 1, 1))
    maps = maps.astype(np.float32)
    return maps, masks, labels.astype(int), maps.max(axis=(1, 2))
