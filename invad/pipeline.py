"""What each stage of `dvc.yaml` does: read its inputs, call one module, write its outputs, tell MLflow.

Heavy packages are imported by the stages that need them.
"""

import logging
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from invad.config import BenchmarkConfig, Params
from invad.errors import InputError
from invad.files import read_json, write_json, write_text
from invad.workspace import Workspace

if TYPE_CHECKING:
    from invad.calibration import Calibration
    from invad.score_store import Scores
    from invad.tracking import Run

# What `dvc metrics show` prints: these of the mean, by the protocol of the paper.
SUMMARY_KEYS = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "region_aupro", "pixel_miou", "mad")

logger = logging.getLogger(__name__)


def download(name: str, params: Params, workspace: Workspace) -> None:
    """Put the raw data of data set `name` in place."""
    from invad.datasets.download import prepare_dataset

    source = prepare_dataset(name, params.dataset(name), workspace)
    logger.info("%s data in %s", source.source, source.root)


def splits(name: str, params: Params, workspace: Workspace) -> None:
    """Build the split table of benchmark `name`."""
    from invad.datasets.splits import build_split, describe

    logger.info("%s", describe(build_split(params.benchmark(name), workspace)))


def features(name: str, params: Params, workspace: Workspace) -> None:
    """Run the frozen encoder over all images of benchmark `name`."""
    from invad.datasets.splits import open_split
    from invad.distributed.extract import shard_runner
    from invad.features import extract_features

    benchmark = params.benchmark(name)
    split, folder = open_split(benchmark, workspace), workspace.features(name)
    with tqdm(desc=f"features@{name}", unit="image", mininterval=1) as progress:

        def on_progress(done: int, total: int) -> None:
            progress.total = total
            progress.update(done)

        key = extract_features(split, benchmark.features, folder, shard_runner(params.extraction), on_progress)
    size = sum(path.stat().st_size for path in folder.iterdir())
    logger.info("%s, channels %s, %.0f MB", key.encoder, key.channels, size / 1e6)


def train(name: str, params: Params, workspace: Workspace) -> None:
    """Train on the features of benchmark `name`, publish the model and its loss curve."""
    from invad import tracking
    from invad.datasets.splits import open_split
    from invad.distributed.train import train_with_ray
    from invad.features import open_features
    from invad.model_folder import ModelConfig, save_model
    from invad.training.curve import Step, curve_csv
    from invad.training.loop import steps_per_epoch
    from invad.training.progress import Progress

    benchmark = params.benchmark(name)
    split = open_split(benchmark, workspace)
    features = open_features(workspace.features(name), "train", split, benchmark.features)
    try:  # before MLflow has a run of it
        steps_per_epoch(len(features), benchmark.train)
    except InputError as error:
        raise InputError(f"params.yaml: train.{name}.{error}") from None
    run = tracking.start_run(benchmark, workspace)
    log = workspace.private / "logs" / f"train@{name}.log"
    logger.info("progress also in %s", log)
    progress = Progress(f"train@{name}", log, benchmark.train.batch_size, params.training.checkpoint_steps)

    def on_progress(steps: list[Step], total: int, resumed: int) -> None:
        progress(steps, total, resumed)
        run.log_curve("train/loss", [(step.step, step.loss) for step in steps])
        run.log_curve("train/learning_rate", [(step.step, step.learning_rate) for step in steps])

    try:
        with progress:
            method, steps = train_with_ray(
                workspace.features(name),
                split,
                benchmark.features,
                features.key,
                benchmark.train,
                name=name,
                workers=params.training,
                storage=workspace.private / "ray",
                on_progress=on_progress,
            )
    except BaseException:
        run.finish(failed=True)
        raise
    config = ModelConfig(
        benchmark=name,
        classes=tuple(sorted({row.class_name for row in split.rows})),
        channels=features.key.channels,
        encoder_sha256=features.key.weights_sha256,
        features=benchmark.features,
        train=benchmark.train,
    )
    save_model(method, config, workspace.model(name))
    write_text(workspace.loss(name), curve_csv(steps))
    tracking.remember_run(run, benchmark, workspace)
    _describe(run, benchmark, workspace)
    run.finish()
    logger.info("%d steps, loss %.4g -> %.4g", len(steps), steps[0].loss, steps[-1].loss)


def calibrate(name: str, params: Params, workspace: Workspace) -> None:
    """Keep with the model of benchmark `name` the thresholds that its held-out normal images give."""
    from invad.calibration import calibrate_maps, write_calibration
    from invad.datasets.splits import open_split

    benchmark = params.benchmark(name)
    split = open_split(benchmark, workspace)
    rows, maps = split.phase("calibration"), ()
    if rows:
        from invad.scoring import phase_maps

        label = f"calibrate@{name}"
        maps = phase_maps(benchmark, split, "calibration", workspace.features(name), workspace.model(name), label=label)
    calibration = calibrate_maps(
        maps, [row.class_name for row in rows], {row.class_name for row in split.rows}, benchmark
    )
    write_calibration(calibration, workspace.calibration(name))
    for note in calibration.notes:
        logger.warning("%s", note)
    if rows:
        rate = calibration.false_positive_rate
        logger.info("thresholds from %d normal images at a false-positive rate of %g", len(rows), rate)


def score(name: str, params: Params, workspace: Workspace) -> None:
    """Write anomaly maps and image scores of the test images of benchmark `name`."""
    from invad.datasets.splits import open_split
    from invad.scoring import score_test_images

    benchmark = params.benchmark(name)
    split = open_split(benchmark, workspace)
    score_test_images(benchmark, split, workspace.features(name), workspace.model(name), workspace.scores(name))


def evaluate(name: str, params: Params, workspace: Workspace) -> None:
    """Write all metrics of benchmark `name`."""
    from invad import metrics
    from invad.calibration import read_calibration
    from invad.score_store import open_scores

    benchmark = params.benchmark(name)
    scores = open_scores(workspace.scores(name))
    calibration = read_calibration(workspace.calibration(name))
    result = metrics.evaluate(
        scores.maps_nhw,
        scores.masks_nhw,
        scores.classes,
        scores.labels,
        scores.image_scores,
        has_mask=scores.has_mask,
    )
    point = _operating_point(scores, calibration, name)
    write_json(workspace.metrics(name), {"benchmark": name, **result, "operating_point": point})
    mean = result["mean"]
    protocol = f"paper {result['protocol_version']}"
    write_json(workspace.summary(name), {"protocol": protocol, **{key: mean["paper"][key] for key in SUMMARY_KEYS}})
    for note in [*result["notes"], *(point["notes"] if calibration.images else calibration.notes)]:
        logger.warning("%s", note)
    logger.info("%s", ", ".join(f"{key} {_percent(mean['paper'][key])}" for key in SUMMARY_KEYS))

    _log_metrics(_continued_run(benchmark, workspace), benchmark, workspace)


def _operating_point(scores: "Scores", calibration: "Calibration", name: str) -> dict[str, Any]:
    """Return what the calibrated thresholds give on the test images, with the rate and the number of images behind them."""
    from invad.calibration import why_none
    from invad.metrics.calibration import operating_point

    point = operating_point(
        scores.maps_nhw,
        scores.masks_nhw,
        scores.classes,
        scores.labels,
        scores.image_scores,
        scores.has_mask,
        {class_name: held_out.thresholds for class_name, held_out in calibration.per_class.items()},
        without=why_none(name),
    )
    return {
        "false_positive_rate": calibration.false_positive_rate,
        "held_out_images": {class_name: held_out.images for class_name, held_out in calibration.per_class.items()},
        **point,
        "notes": [*calibration.notes, *point["notes"]],
    }


def report(_name: str, params: Params, workspace: Workspace) -> None:
    """Render tables, figures and the page from the results of all benchmarks."""
    from invad.reporting.collect import collect_result
    from invad.reporting.report import write_report

    write_report([collect_result(benchmark, workspace) for benchmark in params.benchmarks.values()], workspace.reports)
    for benchmark in params.benchmarks.values():
        _log_figures(_continued_run(benchmark, workspace), benchmark, workspace)
    logger.info("open %s", workspace.reports / "index.html")


def ablate(module: str, params: Params, workspace: Workspace) -> None:
    """Compare the variants of a module as the section `ablations` says, from where an interrupted study ended."""
    from invad.studies.ablation import ablation_of_params, run_ablation

    options = ablation_of_params(module, params)
    report = run_ablation(module, options, params, workspace)
    failed = sorted({result.variant for result in report.results if result.status == "failed"})
    if failed:
        logger.warning("failed: %s; %s has the reasons", ", ".join(failed), workspace.ablations / f"{module}.md")


def sync_runs(params: Params, workspace: Workspace) -> list[str]:
    """Log to MLflow what is missing there of the present results, and return a line for each benchmark.

    DVC skips a stage whose result is known already, for example in a fresh clone, which has the committed reports; the run of a model
    that was trained there would stay without metrics and figures.
    """

    lines = []
    for name, benchmark in params.benchmarks.items():
        if not (workspace.metrics(name).exists() and workspace.model(name).exists()):
            lines.append(f"{name}: no results yet")
            continue
        run = _continued_run(benchmark, workspace)
        missing = [
            what for what, there in (("metrics", run.has_metrics()), ("figures", run.has_files("figures"))) if not there
        ]
        if "metrics" in missing:
            _log_metrics(run, benchmark, workspace)
        if "figures" in missing:
            _log_figures(run, benchmark, workspace)
        lines.append(
            f"{name}: run {run.mlflow_id or run.run_id}, {' and '.join(missing) + ' added' if missing else 'complete'}"
        )
    return lines


def _continued_run(benchmark: BenchmarkConfig, workspace: Workspace) -> "Run":
    from invad import tracking

    return tracking.continue_run(benchmark, workspace, lambda run: _describe(run, benchmark, workspace))


def _describe(run: "Run", benchmark: BenchmarkConfig, workspace: Workspace) -> None:
    """Log what a training worked on and what came out: data sets, loss curve and model."""
    from invad.datasets.source import read_source
    from invad.datasets.splits import open_split

    run.log_split(open_split(benchmark, workspace), benchmark, read_source(workspace.raw(benchmark.dataset)).source)
    run.log_file(workspace.loss(benchmark.name))
    run.log_model(workspace.model(benchmark.name), benchmark)


def _log_metrics(run: "Run", benchmark: BenchmarkConfig, workspace: Workspace) -> None:
    """Log all metrics of each protocol and of the operating point, and the rows of all classes as a table."""
    from invad import tracking

    path = workspace.metrics(benchmark.name)
    result = read_json(path)
    rows = [
        {"class": class_name, "protocol": protocol, **values}
        for class_name, protocols in result["per_class"].items()
        for protocol, values in protocols.items()
    ]
    run.log_table({column: [row[column] for row in rows] for column in rows[0]}, "per_class")
    run.log_file(path)
    run.tag("invad.protocol_version", result["protocol_version"])
    tracking.tag_outputs(run, benchmark, workspace)
    # Last and at once: whoever asks has_metrics finds all or nothing.
    run.log_metrics(tracking.flatten_result(result))
    run.finish()


def _log_figures(run: "Run", benchmark: BenchmarkConfig, workspace: Workspace) -> None:
    for name in (f"heatmaps_{benchmark.name}.png", f"scores_{benchmark.name}.png"):
        if (figure := workspace.reports / "figures" / name).exists():
            run.log_file(figure, "figures")
    run.finish()


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
