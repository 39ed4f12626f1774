"""The features that trials train on: one store for each encoder and input size, extracted once and kept for later studies."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from invad.config import FeaturesConfig
from invad.data.split_table import Phase, Split
from invad.errors import InputError
from invad.features import extract_features, open_features
from invad.features.encoder import build_encoder
from invad.features.extract import Run
from invad.studies.study import Identity
from invad.workspace import Workspace


@dataclass(frozen=True)
class Stores:
    """Where features lie, and how they are written where they do not.

    `run`: writes shards. `split`: the images that trials may see. `own`: the folder of the benchmark's own features, used where it fits.
    """

    identity: Identity
    split: Split
    workspace: Workspace
    run: Run

    def training(self, config: FeaturesConfig) -> Path:
        """Return the folder of the features of all images that trials may see; extract them unless they are there.

        Raises:
            InputError: They cannot be extracted: the weights cannot be fetched, or an image is damaged.
        """
        phases: tuple[Phase, ...] = ("train", "test") if self.split.phase("test") else ("train",)
        own = self.workspace.features(self.identity.study.base.name)
        return own if _fits(own, phases, self.split, config) else self._kept(config, self.split, phases)

    def validation(self, config: FeaturesConfig, split: Split) -> Path:
        """Return the folder of the features of a validation split's images."""
        return self._kept(config, split, ("test",))

    def _kept(self, config: FeaturesConfig, split: Split, phases: Sequence[Phase]) -> Path:
        name = self.identity.features(config, split)
        folder = self.workspace.private / "features" / name
        if not _is_there(folder, phases, split, config):
            with tqdm(
                desc=f"features {config.encoder} {config.image_size} px", unit="image", mininterval=1
            ) as progress:

                def on_progress(done: int, total: int) -> None:
                    progress.total = total
                    progress.update(done)

                extract_features(split, config, folder, self.run, on_progress)
        return folder


def trial_split(split: Split, *, test: bool) -> Split:
    """Return what trials may see of a split: training and test images, or the training images alone."""
    return replace(
        split, rows=tuple(row for row in split.rows if row.phase == "train" or (test and row.phase == "test"))
    )


def _fits(folder: Path, phases: Sequence[Phase], split: Split, config: FeaturesConfig) -> bool:
    """Return whether `folder` holds features of this split and these settings, the encoder's weights among them."""
    if not _is_there(folder, phases, split, config):
        return False
    recorded = open_features(folder, "train", split, config).key.weights_sha256
    return build_encoder(config.encoder, config.weights).weights_sha256 == recorded


def _is_there(folder: Path, phases: Sequence[Phase], split: Split, config: FeaturesConfig) -> bool:
    if not folder.is_dir():
        return False
    try:
        for phase in phases:
            open_features(folder, phase, split, config)
    except InputError:
        return False
    return True
