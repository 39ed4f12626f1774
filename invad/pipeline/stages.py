"""What each stage of `dvc.yaml` does, between its inputs and outputs; heavy packages are imported by the stages that need them."""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from invad.config import Params
from invad.errors import InputError
from invad.files import atomic_path, write_json, write_text
from invad.workspace import SEGAD_FILE, Workspace

if TYPE_CHECKING:
    from invad.cluster.train import Trained
    from invad.training.model_folder import ModelConfig

# What `dvc metrics show` prints, in names that let the table fit 80 columns: of the mean, by the protocol of the paper, in percent.
SUMMARY = {
    "I-AUROC": "image_auroc", "P-AUROC": "pixel_auroc", "AUPRO": "region_aupro", "mIoU": "pixel_miou", "mAD": "mad",
}  # fmt: skip

logger = logging.getLogger(__name__)


def check(_name: str, params: Params, workspace: Workspace) -> None:
    """Write what each stage depends on beside data: settings and code; `InputError`: no such encoder or ablation, or xgboost is missing."""
    from invad.features.encoder import hollow_encoder
    from invad.pipeline.dependencies import dependencies

    for settings, features in {each.settings: each.features for each in params.benchmarks.values()}.items():
        try:
            hollow_encoder(features)
        except InputError as error:
            raise InputError(f"params.yaml: features.{settings}.{error}") from None
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
    """Train on the features of benchmark `name` and publish model and loss curve, of further seeds and earlier states as snapshots.

    `InputError` where there are too few images.
    """
    from contextlib import ExitStack

    from invad import tracking
    from invad.cluster.train import trained
    from invad.data.split_table import open_split
    from invad.features import open_features
    from invad.features.encoder import configured_encoder
    from invad.training.cost import model_cost, peak_memory
    from invad.training.curve import curve_csv
    from invad.training.loop import training_steps, views_of
    from invad.training.model_folder import ModelConfig, save_model
    from invad.training.progress import Progress
    from invad.training.snapshots import snapshot_steps

    benchmark = params.benchmark(name)
    split = open_split(benchmark, workspace)
    features = open_features(workspace.features(name), "train", split, benchmark.features)
    views = views_of(split.phase("train"), benchmark.train)
    try:  # before anything starts
        total = training_steps(len(features), features.key.output, benchmark.train, views)
        snapshots = snapshot_steps(benchmark, total)
    except InputError as error:
        raise InputError(f"params.yaml: train.{benchmark.settings}.{error}") from None
    run = tracking.start_run(benchmark, workspace)
    logs = workspace.private / "logs"
    started = time.monotonic()
    with ExitStack() as stack:
        progresses = []
        for seed in benchmark.seeds:
            label = f"train@{name}" + (f"-{seed}" if seed != benchmark.train.seed else "")
            log = logs / f"{label}.log"
            logger.info("progress also in %s", log)
            progress = Progress(label, log, benchmark.train.batch_size, params.training.checkpoint_steps)
            progresses.append(stack.enter_context(progress))
        trainings = stack.enter_context(
            trained(
                workspace.features(name),
                split,
                benchmark.features,
                features.key,
                [replace(benchmark.train, seed=seed) for seed in benchmark.seeds],
                name=name,
                workers=params.training,
                storage=workspace.private / "ray",
                on_progress=progresses,
                snapshots=snapshots,
            )
        )
        method, steps = trainings[0].method(), trainings[0].steps()
        config = ModelConfig.of(benchmark, split, features.key)
        _write_snapshots(trainings, config, len(features) // benchmark.train.batch_size, workspace.snapshots(name))
        save_model(method, config, workspace.model(name), configured_encoder(benchmark.features))
    write_json(workspace.cost(name), asdict(model_cost(benchmark, method, views)))
    write_text(workspace.loss(name), curve_csv(steps))
    tags = {
        "train.seconds": f"{time.monotonic() - started:.1f}",
        "train.steps": str(len(steps) - progresses[0].resumed),  # those of this process
        "train.peak_memory_mb": f"{peak_memory() / 1e6:.0f}",
    }
    tracking.log_training(run, benchmark, workspace, tags)
    if steps:
        logger.info("%d steps, loss %.4g -> %.4g", len(steps), steps[0].loss, steps[-1].loss)
    else:
        logger.info("fitted to %d images", len(features))


def _write_snapshots(trainings: "Sequence[Trained]", config: "ModelConfig", per_epoch: int, folder: Path) -> None:
    """Write the models of all seeds but the first, and the earlier states of all; `per_epoch`: steps."""
    from invad.training.curve import curve_csv
    from invad.training.model_folder import save_model
    from invad.training.snapshots import CURVE_FILE, INDEX_FILE, Snapshot

    index = []
    with atomic_path(folder) as temporary:
        temporary.mkdir(parents=True)
        for training in trainings:
            seed, is_further = training.job.train.seed, training is not trainings[0]
            for step in [*training.job.snapshots, *([training.total] if is_further else [])]:
                snapshot = Snapshot(f"seed-{seed}-step-{step}", seed, step, training.total, step / max(1, per_epoch))
                method = training.method() if snapshot.is_last else training.snapshot(step)
                save_model(method, replace(config, train=training.job.train), temporary / snapshot.folder)
                if snapshot.is_last:
                    write_text(temporary / snapshot.folder / CURVE_FILE, curve_csv(training.steps()))
                index.append(asdict(snapshot))
        write_json(temporary / INDEX_FILE, index)


def score(name: str, params: Params, workspace: Workspace) -> None:
    """Write anomaly maps and image scores of the test images of benchmark `name`, and of the normal images held out for thresholds."""
    from invad.cluster.score import score_by_workers
    from invad.data.split_table import open_split

    benchmark = params.benchmark(name)
    split = open_split(benchmark, workspace)
    folders = (workspace.features(name), workspace.model(name), workspace.scores(name))
    score_by_workers(benchmark, split, *folders, params.scoring)


def evaluate(name: str, params: Params, workspace: Workspace) -> None:
    """Keep thresholds with the model of benchmark `name`, from its held-out normal images, and write all metrics, of all its trainings."""
    from invad.data.split_table import open_split
    from invad.metrics.curves import mean_curve_csvs
    from invad.pipeline.evaluating import evaluate_maps
    from invad.pipeline.trainings import evaluate_trainings
    from invad.scoring.thresholds import write_calibration
    from invad.tracking import log_evaluation

    benchmark = params.benchmark(name)
    split = open_split(benchmark, workspace)
    own = evaluate_maps(benchmark, split, workspace.scores(name), in_full=True)
    write_calibration(own.calibration, workspace.calibration(name))
    write_text(workspace.curves(name), json.dumps(own.curves, ensure_ascii=False, allow_nan=False) + "\n")
    # For `dvc plots show`; one that cannot be computed has no rows.
    for curve, text in mean_curve_csvs(own.curves).items():
        write_text(workspace.mean_curves(name) / f"{curve}.csv", text)
    write_json(workspace.metrics(name), own.metrics)
    write_json(workspace.trainings(name), evaluate_trainings(benchmark, split, workspace, own))
    mean = {label: own.metrics["mean"]["paper"][key] for label, key in SUMMARY.items()}
    percent = {label: None if value is None else round(100 * value, 2) for label, value in mean.items()}
    write_json(workspace.summary(name), percent)
    for note in own.notes:
        logger.warning("%s", note)
    if images := own.calibration.images:
        rate = own.calibration.false_positive_rate
        logger.info("thresholds from %d normal images at a false-positive rate of %g", images, rate)
    logger.info("%s", ", ".join(f"{label} {'-' if value is None else value}" for label, value in percent.items()))
    log_evaluation(benchmark, workspace)


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
