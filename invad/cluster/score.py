"""The stage `score` in this process, or by as many workers as are asked for: each writes whole files of maps, of whole batches.

What a method says of an image depends, by its rounding, on the batch that it stands in. The batches are those of one process, and so are
the bytes of all files.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from invad.cluster.cluster import needs_cluster
from invad.cluster.shards import by_workers
from invad.config import BenchmarkConfig, WorkersConfig
from invad.data.split_table import Phase, Split
from invad.devices import place
from invad.features import FeatureSource, open_features
from invad.features.batches import BatchSource, batch_source
from invad.features.extract import image_bar
from invad.files import atomic_path, remove
from invad.scoring.score import predictions, score_images, score_table, with_masks
from invad.scoring.store import PHASE_FOLDERS, file_numbers, write_maps, write_table
from invad.training.model_folder import check_features, load_model


@dataclass(frozen=True)
class MapFile:
    """The images `start` to `stop` of a phase, whose maps stand in file `number`."""

    phase: Phase
    number: int
    start: int
    stop: int


@dataclass(frozen=True)
class Scoring:
    """What a worker needs to know; paths are absolute. `out`: the folder of the test images' maps."""

    benchmark: BenchmarkConfig
    split: Split
    features: Path
    model: Path
    out: Path


class MapWriter:
    """Writes files of maps with a model and features that are opened once."""

    def __init__(self, scoring: Scoring, device: torch.device) -> None:
        """`InputError`: there is no such model."""
        self._scoring = scoring
        self._side = scoring.benchmark.features.image_size
        method, self._config = load_model(scoring.model)
        self._method = place(method, device, scoring.benchmark.score)
        self._features: dict[Phase, FeatureSource] = {}

    def files(self, phase: Phase) -> Iterator[MapFile]:
        """Yield which files `write_scores` would write of a phase's images; `InputError`: model and features do not fit."""
        number, size = file_numbers(), self._scoring.benchmark.score.batch_size
        batches = self._batches(phase).rows_in_order(size)
        for file, in_file in groupby(batches, key=lambda rows: number(len(rows), self._side**2)):
            rows = [*in_file]
            yield MapFile(phase, file, rows[0].start, rows[-1].stop)

    def write(self, file: MapFile) -> bytes:
        """Write a file of maps and return the scores of its images, float32; `InputError`: a map is NaN or infinite."""
        benchmark, split = self._scoring.benchmark, self._scoring.split
        source = self._batches(file.phase, range(file.start, file.stop))
        scored = predictions(self._method, source, benchmark.score, label=f"score@{benchmark.name}, {file.phase}")
        rows = split.phase(file.phase)[file.start : file.stop]
        folder = self._scoring.out / PHASE_FOLDERS[file.phase]
        with closing(with_masks(scored, split, rows, self._side)) as batches:
            return write_maps(batches, folder, file.number).tobytes()

    def _batches(self, phase: Phase, rows: range | None = None) -> BatchSource:
        split, config = self._scoring.split, self._scoring.benchmark.features
        if phase not in self._features:
            self._features[phase] = open_features(self._scoring.features, phase, split, config)
            check_features(self._config, self._features[phase].key, self._scoring.model)
        return batch_source(self._features[phase], self._method.needs, split, phase, config, rows)


def score_by_workers(
    benchmark: BenchmarkConfig, split: Split, features: Path, model: Path, out: Path, workers: WorkersConfig
) -> None:
    """Write what `score_images` writes, and `InputError` as there; also where the cluster lacks what the section `score` asks for."""
    if not needs_cluster(workers):
        score_images(benchmark, split, features, model, out)
        return
    with atomic_path(out.absolute()) as temporary:
        absolute = replace(benchmark, features=benchmark.features.absolute())
        scoring = Scoring(absolute, split.absolute(), features.absolute(), model.absolute(), temporary)
        files = _files(scoring)
        phases = list(dict.fromkeys(file.phase for file in files))
        for phase in phases:
            (temporary / PHASE_FOLDERS[phase]).mkdir(parents=True, exist_ok=True)
        scores: dict[MapFile, bytes] = {}
        images = sum(file.stop - file.start for file in files)
        with image_bar(f"score@{benchmark.name}") as show:
            for file, result in by_workers(partial(MapWriter, scoring), files, workers, "score"):
                scores[file] = result
                show(file.stop - file.start, images)
        for phase in phases:
            image_scores = b"".join(scores[file] for file in files if file.phase == phase)
            folder = temporary / PHASE_FOLDERS[phase]
            write_table(score_table(split, phase), np.frombuffer(image_scores, np.float32), folder)
            for unfinished in folder.glob(".*"):  # of a worker that was lost
                remove(unfinished)


def _files(scoring: Scoring) -> list[MapFile]:
    writer = MapWriter(scoring, torch.device("cpu"))
    return [
        file for phase in PHASE_FOLDERS if phase == "test" or scoring.split.phase(phase) for file in writer.files(phase)
    ]
