"""What a method asks of the images of a phase, batch by batch: features, the images themselves, or images with synthetic anomalies.

What it does not ask for is not computed. All randomness depends on (seed, epoch, image) alone, so that neither an interruption nor the
number of workers changes anything.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from invad.config import ComputeConfig, FeaturesConfig
from invad.data.split_table import Phase, Split, view_count
from invad.devices import formatted
from invad.features.ahead import cores, read_ahead
from invad.features.decoded import MOST_BYTES, DecodedImages
from invad.features.encoder import EncoderOutput
from invad.features.source import FeatureKey, FeatureSource
from invad.features.synthesis import Corruption, Textures, corrupted

Rows = Sequence[int] | np.ndarray
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Needs:
    """What a method asks for.

    `levels`: of the encoder, by their index, fine to coarse. `prefix`: their prefix tokens as well. `images`: the images as they are.
    `corruption`: how synthetic anomalies are painted into the training images; it implies `images`. `views`: whole objects, each of them in
    all of its views.
    """

    levels: tuple[int, ...] = ()
    prefix: bool = False
    images: bool = False
    corruption: Corruption | None = None
    views: bool = False

    def tensors(self, output: EncoderOutput) -> tuple[int, ...]:
        """Return which of the tensors of `output.shapes` these are; `ValueError` where the encoder lacks one."""
        if missing := set(self.levels) - set(output.levels):
            raise ValueError(f"{output.encoder} has no level {min(missing)}")
        has_prefix = self.prefix and output.prefix_tokens > 0
        return self.levels + tuple(len(output.channels) + level for level in self.levels if has_prefix)


@dataclass(frozen=True)
class Batch:
    """What a method has asked for of some images.

    `features`: float32 (B, C_l, H_l, W_l), fine to coarse, and behind them the prefix tokens that were asked for, (B, C_l, P, 1).
    `images`: RGB, float32 (B, 3, H, W) in [0, 1]. While training, where the method asks for synthetic anomalies: `corrupted` images
    alike, the clean images that they should be, in place of `images`, and `masks`, float32 (B, 1, H, W), 1 where there is an anomaly.
    `seeds`: of each image in this epoch; none outside of training. `views`: so many images in a row show one object, always in the same
    order; 1 unless the method asks for views. `classes`: of each training image; none of images to predict.
    """

    features: tuple[Tensor, ...] = ()
    images: Tensor | None = None
    corrupted: Tensor | None = None
    masks: Tensor | None = None
    seeds: tuple[tuple[int, ...], ...] = ()
    views: int = 1
    classes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """The number of images."""
        first = self.features[0] if self.features else self.images
        return len(self.seeds) if first is None else first.shape[0]

    def formatted(self, config: ComputeConfig) -> "Batch":
        """Return the same in the memory format of `config`."""
        features = tuple(formatted(self.features, config))
        images = (None if x is None else formatted([x], config)[0] for x in (self.images, self.corrupted, self.masks))
        return Batch(features, *images, seeds=self.seeds, views=self.views, classes=self.classes)

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers (B, *shape), float32 on the CPU, that depend on seed, epoch and image alone."""
        draws = [torch.randn(shape, generator=_generator(seed)) for seed in self.seeds]
        return torch.stack(draws)

    def kept(self, share: float, *shape: int) -> Tensor:
        """Return bool (B, *shape), true with the probability `share`, on the device of the features; the same draw as `normal` makes."""
        device = self.features[0].device
        empty = torch.empty(shape, dtype=torch.bool, device=device)
        return torch.stack([empty.bernoulli(share, generator=_generator(seed, device)) for seed in self.seeds])


def _generator(seed: tuple[int, ...], device: torch.device = CPU) -> torch.Generator:
    word = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(word % 2**63)


class BatchSource:
    """The batches of a phase.

    `key`: what their features depend on. `images`: that of each row, as the split table names it. `views`: so many rows are one object,
    which no batch may split.
    """

    def __init__(
        self,
        features: FeatureSource,
        needs: Needs,
        pictures: "Pictures | None" = None,
        rows: Sequence[int] | None = None,
        views: int = 1,
        classes: Sequence[str] = (),
    ) -> None:
        """Take the features that `needs` names from `features`, and images from `pictures`; of the rows `rows`, by default all.

        `classes`: of all rows, where the method may know them.
        """
        self.views = views
        self._features = features
        self._needs = needs
        self._levels = needs.tensors(features.key.output)
        self._pictures = pictures
        self._classes = classes
        self._rows = np.arange(len(features)) if rows is None else np.asarray(rows, np.int64)
        self.key: FeatureKey = features.key
        self.images: Sequence[str] = [features.images[row] for row in self._rows.tolist()]

    def __len__(self) -> int:
        return len(self._rows)

    def batches(
        self, batches: Iterable[Rows], device: torch.device, seed: tuple[int, ...] | None = None
    ) -> Iterator[Batch]:
        """Yield a batch on `device` for each of `batches`, rows in [0, len(self)), in order.

        `seed` is that of the epoch of a training, and gives synthetic anomalies and `Batch.seeds`; without it images are as they are.
        """
        wanted = [self._rows[np.asarray(batch)] for batch in batches]
        seeds = [() if seed is None else tuple((*seed, int(row)) for row in rows) for rows in wanted]
        classes = [tuple(self._classes[row] for row in rows) if self._classes else () for rows in wanted]
        features = (
            replace(batch, seeds=each, views=self.views, classes=known)
            for batch, each, known in zip(self._of_features(wanted, device), seeds, classes, strict=True)
        )
        if self._pictures is None:
            yield from features
            return
        pictures = self._pictures.batches(list(zip(wanted, seeds, strict=True)), device)
        for batch, seen in zip(features, pictures, strict=True):
            yield replace(batch, images=seen.images, corrupted=seen.corrupted, masks=seen.masks)

    def in_order(self, size: int, device: torch.device) -> Iterator[Batch]:
        """Yield all images in batches of `size`, or as many as whole objects have; the last one may be smaller."""
        return self.batches(self.rows_in_order(size), device)

    def rows_in_order(self, size: int) -> Iterator[range]:
        """Yield the rows of each batch of `in_order`."""
        size = max(size // self.views, 1) * self.views
        yield from (range(start, min(start + size, len(self))) for start in range(0, len(self), size))

    def _of_features(self, batches: Sequence[Rows], device: torch.device) -> Iterator[Batch]:
        if not self._levels:
            yield from (Batch() for _ in batches)
            return
        for levels in self._features.batches(batches, device):
            yield Batch(tuple(levels[level] for level in self._levels))


class Pictures:
    """The images of a phase, for methods that ask for them; those of a training are decoded once."""

    def __init__(
        self,
        split: Split,
        phase: Phase,
        size: int,
        corruption: Corruption | None = None,
        used: Sequence[int] | None = None,
    ) -> None:
        """`size`: the side of the square that images are resized to. `used`: the rows that may be textures, by default all."""
        rows, trains = split.phase(phase), phase == "train"
        paths = [split.image_path(row) for row in rows]
        self._images = DecodedImages(paths, size, split.reading, MOST_BYTES if trains else 0)
        self._corruption, self._textures = corruption, None
        if corruption is not None and trains:
            self._textures = Textures.of(corruption, self._images, [row.class_name for row in rows], size, used)

    def batches(
        self, batches: Sequence[tuple[Rows, tuple[tuple[int, ...], ...]]], device: torch.device
    ) -> Iterator[Batch]:
        """Yield of each batch of rows and their seeds the images on `device`; with seeds, those of a training, the anomalies as well."""
        pool = ThreadPoolExecutor(cores())
        with pool, read_ahead(lambda batch: self._drawn(*batch, pool), batches, device) as drawn:
            for images, *painted in drawn:
                batch = Batch(images=_tensor(images, device))
                if painted:
                    masks = torch.from_numpy(painted[1]).unsqueeze(1).to(device).float()
                    batch = replace(batch, corrupted=_tensor(painted[0], device), masks=masks)
                yield batch

    def _drawn(self, rows: Rows, seeds: tuple[tuple[int, ...], ...], pool: ThreadPoolExecutor) -> list[np.ndarray]:
        """Return the images, and with anomalies the clean ones, the corrupted ones and the masks, (B, H, W, ...)."""
        textures, recipe = self._textures, self._corruption
        if textures is None or recipe is None or not seeds:
            return [np.stack(list(pool.map(self._images.__getitem__, rows)))]

        def draw(row: int, seed: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            return corrupted(self._images[row], textures, row, recipe, np.random.default_rng(seed))

        return [np.stack(part) for part in zip(*pool.map(draw, rows, seeds), strict=True)]


def _tensor(images: np.ndarray, device: torch.device) -> Tensor:
    return image_tensor(torch.from_numpy(images).to(device))


def image_tensor(images_bhwc: Tensor) -> Tensor:
    """Return images, uint8 or float32 (B, H, W, 3) in [0, 255], as float32 (B, 3, H, W) in [0, 1]."""
    return images_bhwc.permute(0, 3, 1, 2).float() / 255


def batch_source(
    features: FeatureSource,
    needs: Needs,
    split: Split,
    phase: Phase,
    config: FeaturesConfig,
    rows: Sequence[int] | None = None,
) -> BatchSource:
    """Return the batches of a phase's images whose features are `features`: of `rows`, by default of all.

    `InputError`: the method asks for views, and the images are not all views of objects that have the same number of them.
    """
    wants_images = needs.images or needs.corruption is not None
    pictures = Pictures(split, phase, config.image_size, needs.corruption, rows) if wants_images else None
    views = 1
    if needs.views:
        all_rows = split.phase(phase)
        views = view_count(all_rows if rows is None else [all_rows[row] for row in rows])
    classes = [row.class_name for row in split.phase(phase)] if phase == "train" else []
    return BatchSource(features, needs, pictures, rows, views, classes)
