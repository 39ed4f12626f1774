"""What each stage of `dvc.yaml` does, between its inputs and outputs; heavy packages are imported by the stages that need them."""

import json
import logging
import time
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from invad.config import BenchmarkConfig, Params
from invad.errors import InputError
from invad.files import write_json, write_text
from invad.workspace import SEGAD_FILE, Workspace

if TYPE_CHECKING:
    from invad.scoring.store import Scores
    from invad.scoring.thresholds import Calibration

# What `dvc metrics show` prints, in names that let the table fit 80 columns: of the mean, by the protocol of the paper, in percent.
SUMMARY = {
    "I-AUROC": "image_auroc", "P-AUROC": "pixel_auroc", "AUPRO": "region_aupro", "mIoU": "pixel_miou", "mAD": "mad",
}  # fmt: skip

logger = logging.getLogger(__name__)


def check(_name: str, params: Params, workspace: Workspace) -> None:
    """Write what each stage depends on beside data: settings and code; `InputError`: no such encoder or ablation, or xgboost is missing."""
    from invad.features.encoder import hollow_encoder
    from invad.pipeline.dependencies import dependencies

    for benchmark in params.benchmarks.values():
        try:
            hollow_encoder(benchmark.features)
        except InputError as error:
            raise InputError(f"params.yaml: features.{benchmark.settings}.{error}") from None
    if params.supervised:
        from invad.supervised.forest import xgboost_module

        xgboost_module()
    for name, text in dependencies(params).items():
        write_text(workspace.code(name), text)


def download(name: str, params: Params, workspace: Workspace) -> None:
    """Put the raw data of data set `name` in place."""
    from invad.data.download import prepare_dataset

    source = prepare_dataset(name, params.dataset(name), workspace)
    logger.info("%s data in %s", source.source, source.root)


def splits(name: str, params: Params, workspace: Workspace) -> None:
    """Build the split table of benchmark `name`."""
    from invad.data.counts import describe
    from invad.data.splits import build_split

    logger.info("%s", describe(build_split(params.benchmark(name), workspace).rows))


def features(name: str, params: Params, workspace: Workspace) -> None:
    """Run the frozen encoder over all images of benchmark `name`."""
    from invad.cluster.extract import shard_runner
    from invad.data.split_table import open_split
    from invad.features import extract_features
    from invad.features.extract import image_bar

    benchmark = params.benchmark(name)
    split, folder = open_split(benchmark, workspace), workspace.features(name)
    with image_bar(f"features@{name}") as show:
        key = extract_features(split, benchmark.features, folder, shard_runner(params.extraction), show)
    size = sum(path.stat().st_size for path in folder.iterdir())
    logger.info("%s, channels %s, %.0f MB", key.encoder, key.channels, size / 1e6)


def train(name: str, params: Params, workspace: Workspace) -> None:
    """Train on the features of benchmark `name`, publish the model and its loss curve; `InputError` where there are too few images."""
    from invad import tracking
    from invad.cluster.train import train_model
    from invad.data.split_table import open_split
    from invad.features import open_features
    from invad.features.encoder import configured_encoder
    from invad.training.cost import model_cost, peak_memory
    from invad.training.curve import curve_csv
    from invad.training.loop import training_steps, views_of
    from invad.training.model_folder import ModelConfig, save_model
    from invad.training.progress import Progress

    benchmark = params.benchmark(name)
    split = open_split(benchmark, workspace)
    features = open_features(workspace.features(name), "train", split, benchmark.features)
    views = views_of(split.phase("train"), benchmark.train)
    try:  # before anything starts
        training_steps(len(features), features.key.output, benchmark.train, views)
    except InputError as error:
        raise InputError(f"params.yaml: train.{benchmark.settings}.{error}") from None
    run = tracking.start_run(benchmark, workspace)
    log = workspace.private / "logs" / f"train@{name}.log"
    logger.info("progress also in %s", log)
    progress = Progress(f"train@{name}", log, benchmark.train.batch_size, params.training.checkpoint_steps)
    started = time.monotonic()
    with progress:
        method, steps = train_model(
            workspace.features(name),
            split,
            benchmark.features,
            features.key,
            benchmark.train,
            name=name,
            workers=params.training,
            storage=workspace.private / "ray",
            on_progress=progress,
        )
    encoder = configured_encoder(benchmark.features)
    save_model(method, ModelConfig.of(benchmark, split, features.key), workspace.model(name), encoder)
    write_json(workspace.cost(name), asdict(model_cost(benchmark, method, views)))
    write_text(workspace.loss(name), curve_csv(steps))
    tags = {
        "train.seconds": f"{time.monotonic() - started:.1f}",
        "train.steps": str(len(steps) - progress.resumed),  # those of this process
        "train.peak_memory_mb": f"{peak_memory() / 1e6:.0f}",
    }
    tracking.log_training(run, benchmark, workspace, tags)
    if steps:
        logger.info("%d steps, loss %.4g -> %.4g", len(steps), steps[0].loss, steps[-1].loss)
    else:
        logger.info("fitted to %d images", len(features))


def score(name: str, params: Params, workspace: Workspace) -> None:
    """Write anomaly maps and image scores of the test images of benchmark `name`, and of the normal images held out for thresholds."""
    from invad.data.split_table import open_split
    from invad.scoring.score import score_images

    benchmark = params.benchmark(name)
    split = open_split(benchmark, workspace)
    score_images(benchmark, split, workspace.features(name), workspace.model(name), workspace.scores(name))


def evaluate(name: str, params: Params, workspace: Workspace) -> None:
    """Keep thresholds with the model of benchmark `name`, from its held-out normal images, and write all metrics."""
    from invad import metrics
    from invad.data.split_table import open_split
    from invad.metrics.curves import mean_curve_csvs
    from invad.scoring.store import open_scores
    from invad.tracking import log_evaluation

    benchmark = params.benchmark(name)
    scores = open_scores(workspace.scores(name))
    calibration = _calibrate(benchmark, workspace)
    images = (scores.maps_nhw, scores.masks_nhw, scores.classes, scores.labels, scores.image_scores)
    empty = scores.empty_masks(open_split(benchmark, workspace))
    result = metrics.evaluate(
        *images, has_mask=scores.has_mask, groups=scores.groups, curves=True, empty_in_paper=empty
    )
    result["notes"] += [
        f"class {name!r}: {count} mask(s) of anomalous images are empty: that is what they count as in the paper protocol, "
        "and as not known in the exact one"
        for name, count in Counter(name for name, one in zip(scores.classes, empty, strict=True) if one).items()
    ]
    curves = result.pop("curves")
    write_text(workspace.curves(name), json.dumps(curves, ensure_ascii=False, allow_nan=False) + "\n")
    for curve, text in mean_curve_csvs(curves).items():  # for `dvc plots show`; one that cannot be computed has no rows
        write_text(workspace.mean_curves(name) / f"{curve}.csv", text)
    point = _operating_point(scores, calibration, benchmark.settings)
    intervals = metrics.bootstrap(*images, has_mask=scores.has_mask, groups=scores.groups, evaluation=result)
    write_json(workspace.metrics(name), {"benchmark": name, **result, "intervals": intervals, "operating_point": point})
    mean = {label: result["mean"]["paper"][key] for label, key in SUMMARY.items()}
    percent = {label: None if value is None else round(100 * value, 2) for label, value in mean.items()}
    write_json(workspace.summary(name), percent)
    for note in [*result["notes"], *(point["notes"] if calibration.images else calibration.notes)]:
        logger.warning("%s", note)
    if calibration.images:
        rate = calibration.false_positive_rate
        logger.info("thresholds from %d normal images at a false-positive rate of %g", calibration.images, rate)
    logger.info("%s", ", ".join(f"{label} {'-' if value is None else value}" for label, value in percent.items()))
    log_evaluation(benchmark, workspace)


def _calibrate(benchmark: BenchmarkConfig, workspace: Workspace) -> "Calibration":
    """Write the thresholds that the maps of a benchmark's held-out normal images give, and return them."""
    from invad.data.split_table import open_split
    from invad.scoring.store import CALIBRATION_FOLDER, open_scores
    from invad.scoring.thresholds import calibrate, write_calibration

    split = open_split(benchmark, workspace)
    scored, classes = iter(()), []
    if split.phase("calibration"):
        held_out = open_scores(workspace.scores(benchmark.name) / CALIBRATION_FOLDER)
        scored, classes = held_out.scored(), held_out.classes
    calibration = calibrate(scored, classes, {row.class_name for row in split.rows}, benchmark)
    write_calibration(calibration, workspace.calibration(benchmark.name))
    return calibration


def _operating_point(scores: "Scores", calibration: "Calibration", settings: str) -> dict[str, Any]:
    """Return what the calibrated thresholds give on the test images, with the rate and the number of images behind them."""
    from invad.metrics.calibration import operating_point
    from invad.scoring.thresholds import why_none

    images = (scores.maps_nhw, scores.masks_nhw, scores.classes, scores.labels, scores.image_scores, scores.has_mask)
    thresholds = {name: held_out.thresholds for name, held_out in calibration.per_class.items()}
    point = operating_point(*images, thresholds, without=why_none(settings))
    return {
        "false_positive_rate": calibration.false_positive_rate,
        "held_out_images": {name: held_out.images for name, held_out in calibration.per_class.items()},
        **point,
        "notes": [*calibration.notes, *point["notes"]],
    }


def supervise(name: str, params: Params, workspace: Workspace) -> None:
    """Train the supervised method `name` on the maps of its detectors and the labelled images, and write model and metrics."""
    from invad.supervised.detections import read_detections
    from invad.supervised.model import write_model
    from invad.supervised.segad import train_segad
    from invad.tracking import log_supervised

    config = params.supervised_method(name)
    benchmarks = [params.benchmark(detector) for detector in config.detectors]
    model, result = train_segad(config, read_detections(benchmarks, workspace), benchmarks[0])
    write_model(model, workspace.model(name) / SEGAD_FILE)
    write_json(workspace.supervised / f"{name}.json", result)
    for run in result["per_seed"]:
        values = ", ".join(f"{key} {'-' if one is None else f'{100 * one:.2f}'}" for key, one in run["mean"].items())
        logger.info("seed %d: %s", run["seed"], values)
    for note in dict.fromkeys([*result["notes"], *(note for run in result["per_seed"] for note in run["notes"])]):
        logger.warning("%s", note)
    log_supervised(name, params, result, workspace)


def report(_name: str, params: Params, workspace: Workspace) -> None:
    """Render tables, figures and the page from the results of all benchmarks, and log them with their runs."""
    from invad.pipeline.rendering import report_workspace
    from invad.tracking import log_report

    for name in report_workspace(params, workspace, workspace.reports):
        log_report(params.benchmarks[name], workspace)
    logger.info("open %s", workspace.reports / "index.html")


def ablate(module: str, params: Params, workspace: Workspace) -> None:
    """Compare the variants of a module as the section `ablations` says, from where an interrupted study ended."""
    from invad.studies.ablation import ablation_of_params, run_ablation

    options = ablation_of_params(module, params)
    report = run_ablation(module, options, params, workspace)
    failed = sorted({result.variant for result in report.results if result.status == "failed"})
    if failed:
        logger.warning("failed: %s; %s has the reasons", ", ".join(failed), workspace.ablations / f"{module}.md")
