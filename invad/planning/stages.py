"""The plan of every stage, put together from counts, sizes and memory."""

from pathlib import Path
from typing import Any

from invad.calibration import why_none
from invad.config import BenchmarkConfig, CocoAdSplitConfig, DownloadConfig, Params
from invad.datasets.coco_ad import COCO_IMAGES
from invad.datasets.counts import MVTEC_COUNTS, VISA_COUNTS
from invad.datasets.download import ROOT_ENTRIES, store_folder
from invad.planning import disk, embedded, memory
from invad.planning.archives import ANNOTATION_BYTES, Amounts, ImageFetches, archive_amounts
from invad.planning.encoders import ENCODERS, hub_tag, is_in_hub_cache
from invad.planning.images import Images, benchmark_images, data_root
from invad.planning.network import NetworkSize, network_size
from invad.planning.stage_plan import StagePlan
from invad.planning.states import folder_bytes, stage_states
from invad.reporting.selection import GALLERY_LIMIT, GALLERY_SIDE
from invad.stage import stage_labels
from invad.studies.ablation import ablation_of_params, plan_ablation
from invad.studies.study import Study
from invad.workspace import Workspace

_CACHED = ("download", "splits", "features", "train", "calibrate", "score")  # their outputs are in DVC's cache as well
# Share of an anomalous image's pixels that are anomalous: COCO-AD's folds 0, 2 and 3, and more than there are elsewhere.
_ANOMALOUS_PIXELS = {"coco": 0.2}
_ANOMALOUS_PIXELS_ELSE = 0.05


def plan_stages(params: Params, workspace: Workspace) -> list[StagePlan]:
    """Return the plan of every stage, in the order in which `dvc repro` runs them. Nothing is downloaded, generated or run.

    Raises:
        InputError: A setting that no stage would accept: an MVTec AD class that there is not.
    """
    planner = _Planner(params, workspace)
    return [planner.plan(label) for label in stage_labels(params)]


class _Planner:
    """Plans stage after stage; `fetches` and `hub_tags` know what an earlier stage will have brought."""

    def __init__(self, params: Params, workspace: Workspace) -> None:
        self.params, self.workspace = params, workspace
        self.states = stage_states(params, workspace)
        self.there = {label for label, state in self.states.items() if state == "there"}
        self.images = benchmark_images(params, workspace, self.there)
        self.fetches: dict[str, ImageFetches] = {}
        self.hub_tags: set[str] = set()

    def plan(self, label: str) -> StagePlan:
        stage, _, name = label.partition("@")
        if stage == "report":
            return self.report(label)
        if stage == "download":
            return self.download(label, name, self.params.dataset(name))
        if stage == "ablate":
            return self.ablate(label, plan_ablation(name, ablation_of_params(name, self.params), self.params))
        return getattr(self, stage)(label, self.params.benchmark(name), self.images[name])

    def download(self, label: str, name: str, config: DownloadConfig) -> StagePlan:
        if config.source == "official":
            return self.official(label, name, config)
        if config.source == "path":
            table = self.workspace.root / config.table if config.table else None
            size = table.stat().st_size if table is not None and table.is_file() else 0
            return self.stage(label, disk=size, memory=memory.DOWNLOAD)
        there, images = label in self.there, embedded.image_files(name, config)
        return self.stage(
            label,
            disk=folder_bytes(self.workspace.raw(name)) if there else embedded.raw_bytes(name, config),
            memory=memory.generate_memory(name, images, config.image_size),
            images=images,
            notes=() if there else ("the size of the generated files is an estimate",),
        )

    def official(self, label: str, name: str, config: DownloadConfig) -> StagePlan:
        store = store_folder(name, config, self.workspace)
        amounts = archive_amounts(name, config, store)
        images = {
            "coco": sum(COCO_IMAGES.values()) if config.images == "archive" else None,
            "mvtec": sum(sum(MVTEC_COUNTS[each]) for each in config.classes or MVTEC_COUNTS),
            "visa": sum(map(sum, VISA_COUNTS.values())),
        }[name]
        notes = ["the size of the unpacked files is an estimate"] if amounts.to_write else []
        notes += [f"the size of {archive} is not published, an estimate" for archive in amounts.estimated]
        return self.stage(
            label,
            download=amounts.download,
            disk=amounts.disk,
            memory=memory.DOWNLOAD,
            images=images,
            writes={store: amounts.to_write},
            notes=tuple(notes),
        )

    def splits(self, label: str, benchmark: BenchmarkConfig, images: Images) -> StagePlan:
        held = memory.splits_memory(self.annotation_bytes(benchmark))
        if images.basis == "unknown":
            notes = (f"its images, and all that depends on them, are not known: {images.reason}",)
            return self.stage(label, download=None, memory=held, notes=notes)
        config = self.params.dataset(benchmark.dataset)
        coco = isinstance(benchmark.splits, CocoAdSplitConfig)
        edge = config.image_size if config.source == "embedded" else disk.COCO_EDGE
        own = disk.split_bytes(images.all, images.anomalous if coco else 0, edge)
        notes = []
        if images.basis == "published":
            notes.append("images as published, counted when the data are there")
        elif images.basis == "estimate" and coco:
            notes.append("images are an estimate, the generated scenes are not known yet")
        store = store_folder(benchmark.dataset, config, self.workspace)
        fetched = Amounts(0, 0, 0)
        if coco and config.source == "official" and config.images == "needed":
            fetched = self.fetch(benchmark.dataset, images, store / "files")
        if fetched.download:
            at_most = "" if images.rows else "; at most so many are fetched, folds share some"
            notes.append(f"the size of the images to fetch is an estimate, COCO's mean{at_most}")
        return self.stage(
            label,
            download=fetched.download,
            disk=own + fetched.disk,
            memory=held,
            images=images.all,
            writes={store: fetched.to_write, **self.writes(label, own)},
            notes=tuple(notes),
        )

    def fetch(self, dataset: str, images: Images, files: Path) -> Amounts:
        fetches = self.fetches.setdefault(dataset, ImageFetches(files))
        if images.rows:
            return fetches.of_names([row.image for row in images.rows])
        return fetches.of_counts(images.train + images.calibration, images.test)

    def features(self, label: str, benchmark: BenchmarkConfig, images: Images) -> StagePlan:
        config, download, notes = benchmark.features, 0, ()
        tag = hub_tag(config)
        if tag is not None and tag not in self.hub_tags and label not in self.there:
            self.hub_tags.add(tag)
            if not is_in_hub_cache(tag):
                download = ENCODERS[config.encoder].file_bytes
                notes = (f"the size of the weights {tag} is an estimate",)
        count = None if images.basis == "unknown" else images.all
        return self.stage(
            label,
            download=download,
            disk=None if count is None else disk.features_bytes(count, config, phases=3 if images.calibration else 2),
            memory=memory.features_memory(config),
            images=count,
            notes=notes,
        )

    def train(self, label: str, benchmark: BenchmarkConfig, images: Images) -> StagePlan:
        config, network = benchmark.train, self.network(benchmark)
        held = memory.train_memory(benchmark.features, self.batch_size(benchmark), network)
        if images.basis == "unknown":
            return self.stage(label, memory=held)
        steps = images.train // config.batch_size * config.epochs
        return self.stage(
            label,
            disk=disk.model_bytes(network, ENCODERS[benchmark.features.encoder], steps),
            memory=held,
            mapped=self.mapped(images.train, benchmark),
            images=images.train,
            steps=steps,
            notes=() if steps else (f"will refuse to run: batch_size {config.batch_size} is more than its images",),
        )

    def calibrate(self, label: str, benchmark: BenchmarkConfig, images: Images) -> StagePlan:
        batch_size = min(benchmark.score.batch_size, images.calibration or benchmark.score.batch_size)
        held = memory.score_memory(benchmark.features, batch_size, self.network(benchmark))
        if images.basis == "unknown":
            return self.stage(label, memory=held)
        rate, pixels = benchmark.calibration.false_positive_rate, images.calibration * benchmark.features.image_size**2
        return self.stage(
            label,
            disk=disk.calibration_bytes(len(images.classes)),
            memory=held + memory.threshold_memory(pixels, rate) if images.calibration else memory.NOT_CALIBRATED,
            mapped=self.mapped(images.calibration, benchmark),
            images=images.calibration,
            notes=() if images.calibration else (why_none(benchmark.name),),
        )

    def score(self, label: str, benchmark: BenchmarkConfig, images: Images) -> StagePlan:
        held = memory.score_memory(benchmark.features, benchmark.score.batch_size, self.network(benchmark))
        if images.basis == "unknown":
            return self.stage(label, memory=held)
        return self.stage(
            label,
            disk=disk.scores_bytes(images.test, benchmark.features.image_size),
            memory=held,
            mapped=self.mapped(images.test, benchmark),
            images=images.test,
        )

    def evaluate(self, label: str, benchmark: BenchmarkConfig, images: Images) -> StagePlan:
        if images.basis == "unknown":
            return self.stage(label)
        pixels = benchmark.features.image_size**2
        share = _ANOMALOUS_PIXELS.get(benchmark.dataset, _ANOMALOUS_PIXELS_ELSE) * images.anomalous / images.test
        return self.stage(
            label,
            disk=disk.metrics_bytes(len(images.classes)),
            memory=memory.evaluate_memory(pixels * images.largest_test_class, share),
            mapped=pixels * images.test * sum(disk.PIXEL_BYTES.values()),
            images=images.test,
        )

    def report(self, label: str) -> StagePlan:
        benchmarks = self.params.benchmarks.values()
        tests = {each.name: self.images[each.name].test for each in benchmarks}
        shown = {name: min(test, GALLERY_LIMIT) for name, test in tests.items()}
        sizes = {each.name: each.features.image_size for each in benchmarks}
        held = sum(memory.report_memory(test, shown[name], sizes[name]) for name, test in tests.items())
        return self.stage(
            label,
            disk=disk.report_bytes(
                len(tests),
                sum(max(1, len(images.classes)) for images in self.images.values()),
                sum(count * min(sizes[name], GALLERY_SIDE) ** 2 for name, count in shown.items()),
            ),
            memory=memory.REPORT + held,
            mapped=max(test * sizes[name] ** 2 for name, test in tests.items()) * disk.PIXEL_BYTES["map"],
            notes=("its size on the disk is a rough estimate",),
        )

    def ablate(self, label: str, study: Study) -> StagePlan:
        images, trials = self.images[study.base.name], study.trials()
        held = max(_trial_memory(trial.benchmark) for trial in trials)
        if images.basis == "unknown":
            return self.stage(label, memory=held)
        # Trials that differ in their maps alone share a training.
        trainings = {(trial.seed, "" if study.shares_training else trial.variant): trial.benchmark for trial in trials}
        steps = sum(images.train // each.train.batch_size * each.train.epochs for each in trainings.values())
        notes = ["its memory is that of one trial, and as many run at a time as Ray finds resources for"]
        if any(trial.benchmark.features != study.base.features for trial in trials):
            notes.append("features of other encoders and sizes than the benchmark's, below .invad, are not counted")
        return self.stage(
            label,
            disk=disk.ABLATION_BYTES,
            memory=held,
            mapped=self.mapped(images.train, study.base),
            images=images.train + images.test,
            steps=steps,
            notes=tuple(notes),
        )

    def stage(self, label: str, **numbers: Any) -> StagePlan:  # noqa: ANN401
        numbers.setdefault("writes", self.writes(label, numbers.get("disk")))
        return StagePlan(label, self.states[label], **numbers)

    def writes(self, label: str, size: int | None) -> dict[Path, int]:
        """Return what a stage whose outputs have `size` bytes is still to write below the workspace."""
        copies = 2 if label.startswith(_CACHED) else 1
        return {self.workspace.root: 0 if size is None or label in self.there else copies * size}

    def network(self, benchmark: BenchmarkConfig) -> NetworkSize:
        return network_size(benchmark.features, benchmark.train, self.batch_size(benchmark))

    def batch_size(self, benchmark: BenchmarkConfig) -> int:
        """Return how many images of a batch each worker has."""
        return max(1, benchmark.train.batch_size // self.params.training.workers)

    def mapped(self, images: int, benchmark: BenchmarkConfig) -> int:
        return 0 if benchmark.features.mode == "live" else disk.features_bytes(images, benchmark.features)

    def annotation_bytes(self, benchmark: BenchmarkConfig) -> int:
        if not isinstance(benchmark.splits, CocoAdSplitConfig):
            return 0
        config = self.params.dataset(benchmark.dataset)
        root = data_root(benchmark.dataset, config, self.workspace, self.there)
        if root is None:
            return ANNOTATION_BYTES if config.source == "official" else 0
        return sum(path.stat().st_size for entry in ROOT_ENTRIES["coco"] if (path := root / entry).is_file())


def _trial_memory(benchmark: BenchmarkConfig) -> int:
    """Return the memory of a trial of a study, which trains in one process."""
    features, train = benchmark.features, benchmark.train
    return memory.train_memory(features, train.batch_size, network_size(features, train, train.batch_size))
