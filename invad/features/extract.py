"""Extraction: images -> the feature store, shard by shard.

Which images a shard holds depends on the features' size alone, so any number of workers writes the same files. Shards are collected in
a folder beside the store, whose name carries a hash of all they depend on; it becomes the store when the last one is there. A killed
extraction goes on from there, and of one with other settings or images nothing is left.
"""

import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from invad.config import FeaturesConfig
from invad.data.split_table import Phase, Split
from invad.devices import best_device
from invad.errors import InputError
from invad.features.ahead import computed_ahead, landed
from invad.features.encoder import configured_encoder
from invad.features.source import FeatureKey, LiveFeatures, feature_key
from invad.features.store import images_per_shard, is_whole_shard, shard_name, write_shard
from invad.files import remove, write_json

LIVE_FILE = "live.json"


@dataclass(frozen=True)
class Shard:
    """Rows `start` to `stop` of a phase, in file `number`."""

    phase: Phase
    number: int
    start: int
    stop: int


@dataclass(frozen=True)
class Extraction:
    """What a worker needs to know. `folder`: where the shards are collected; absolute, as the paths of `split`, for who works elsewhere."""

    split: Split
    config: FeaturesConfig
    folder: str


class ShardWriter:
    """Writes shards with an encoder that is built once."""

    def __init__(self, extraction: Extraction, device: torch.device) -> None:
        self._folder = Path(extraction.folder)
        self._device = device
        self._batch_size = extraction.config.batch_size
        encoder = configured_encoder(extraction.config)
        self._features = {
            phase: LiveFeatures(extraction.split, phase, extraction.config, encoder)
            for phase in phases(extraction.split)
        }

    def write(self, shard: Shard) -> int:
        """Write a shard and return the number of its images."""
        return sum(self.write_all([shard]))

    def write_all(self, shards: Iterable[Shard]) -> Iterator[int]:
        """Write shards, one after the other, while the encoder goes on with the next; yield the number of images of each."""
        for phase, of_phase in groupby(shards, lambda shard: shard.phase):
            features, rows = self._features[phase], [(shard, self._rows(shard)) for shard in of_phase]
            computed = self._computed(features, [batch for _, batches in rows for batch in batches])
            with computed_ahead(computed, self._device) as levels:
                for shard, batches in rows:
                    path = self._folder / shard_name(phase, shard.number)
                    images = features.images[shard.start : shard.stop]
                    write_shard(path, features.key, images, islice(levels, len(batches)))
                    yield len(images)

    def _rows(self, shard: Shard) -> list[range]:
        starts = range(shard.start, shard.stop, self._batch_size)
        return [range(start, min(start + self._batch_size, shard.stop)) for start in starts]

    def _computed(self, features: LiveFeatures, batches: Sequence[range]) -> Iterator[Sequence[Tensor]]:
        """Yield the features of each batch as they are stored, on the CPU."""
        dtype = getattr(torch, features.key.dtype)
        levels = (
            [level.to(dtype).contiguous() for level in levels] for levels in features.batches(batches, self._device)
        )
        return landed(levels, self._device)


Run = Callable[[Extraction, Sequence[Shard]], Iterable[int]]


def run_here(extraction: Extraction, shards: Sequence[Shard]) -> Iterator[int]:
    """Write `shards` in this process; yield the number of images of each."""
    return ShardWriter(extraction, best_device()).write_all(shards)


def extract_features(
    split: Split,
    config: FeaturesConfig,
    folder: Path,
    run: Run = run_here,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> FeatureKey:
    """Write the features of all phases to `folder`, whole or not at all, and return the key of the training features.

    With `mode: live` nothing but a file that says what the features depend on is written. `run` writes shards and yields the number of
    images of each, in this process or by several workers; `on_progress` is called with the number of images that were done since, and
    of all. `InputError`: an image is missing or damaged (named), or the encoder cannot be built.
    """
    encoder = configured_encoder(config)
    keys = {phase: feature_key(split, phase, config, encoder) for phase in phases(split)}
    collected = folder.with_name(f".{folder.name}.{_result_hash(split, list(keys.values()))}.partial").absolute()
    for other in collected.parent.glob(f".{folder.name}.*.partial"):
        if other != collected or config.mode == "live":
            remove(other)
    if config.mode == "live":
        remove(folder)
        write_json(folder / LIVE_FILE, {phase: key.as_plain() for phase, key in keys.items()})
        return keys["train"]
    images = {phase: [row.image for row in split.phase(phase)] for phase in keys}
    shards = [shard for phase in keys for shard in _shards(keys[phase], len(images[phase]))]
    collected.mkdir(parents=True, exist_ok=True)
    _remove_unfinished(collected)

    def is_written(shard: Shard) -> bool:
        names = images[shard.phase][shard.start : shard.stop]
        return is_whole_shard(collected / shard_name(shard.phase, shard.number), keys[shard.phase], names)

    missing = [shard for shard in shards if not is_written(shard)]
    total = sum(shard.stop - shard.start for shard in shards)
    on_progress(total - sum(shard.stop - shard.start for shard in missing), total)
    for done in run(Extraction(split.absolute(), config.absolute(), str(collected)), missing) if missing else ():
        on_progress(done, total)
    _remove_unfinished(collected)  # of a worker that was lost
    remove(folder)
    collected.replace(folder)
    return keys["train"]


def _remove_unfinished(collected: Path) -> None:
    for unfinished in collected.glob(".*"):
        remove(unfinished)


def phases(split: Split) -> tuple[Phase, ...]:
    """Return the phases that get features: `calibration` and `labelled` only where there are images of them."""
    every: tuple[Phase, ...] = ("train", "calibration", "labelled", "test")
    return tuple(phase for phase in every if phase in ("train", "test") or split.phase(phase))


def _shards(key: FeatureKey, images: int) -> Iterator[Shard]:
    size = images_per_shard(key)
    for number, start in enumerate(range(0, images, size)):
        yield Shard(key.phase, number, start, min(start + size, images))


def _result_hash(split: Split, keys: Sequence[FeatureKey]) -> str:
    """Hash of all that the shards depend on, with sizes and times of the image files, so that none of a replaced image is kept."""
    digest = hashlib.sha256(json.dumps([key.as_plain() for key in keys], sort_keys=True).encode())
    for row in split.rows:
        path = split.image_path(row)
        try:
            status = path.stat()
        except FileNotFoundError:
            raise InputError(f"{path}: no such image") from None
        digest.update(f"{row.image} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


@contextmanager
def image_bar(label: str, *, shown: bool = True) -> Generator[Callable[[int, int], None]]:
    """Yield what shows in a bar how many images were done since, and of how many."""
    with tqdm(desc=label, unit="image", mininterval=1, disable=not shown) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done)

        yield show
