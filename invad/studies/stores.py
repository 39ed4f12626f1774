"""The features that trials train on: one store for each encoder and input size, extracted once and kept for later studies."""

from dataclasses import dataclass, replace
from pathlib import Path

from invad.config import FeaturesConfig
from invad.data.split_table import Phase, Split
from invad.errors import InputError
from invad.features import extract_features, open_features
from invad.features.encoder import configured_encoder
from invad.features.extract import Run, image_bar
from invad.studies.study import Identity
from invad.workspace import Workspace

_PHASES: tuple[Phase, ...] = ("train", "test")


@dataclass(frozen=True)
class Stores:
    """Where features lie, and how they are written where they do not: `run` writes shards. `split`: the images that trials may see."""

    identity: Identity
    split: Split
    workspace: Workspace
    run: Run

    def training(self, config: FeaturesConfig) -> Path:
        """Return the folder of the features that trials may see: the benchmark's own where they fit; `InputError` of an extraction."""
        own = self.workspace.features(self.identity.study.base.name)
        fits = _holds(own, self.split, config) and _has_weights(own, self.split, config)
        return own if fits else self.kept(config, self.split)

    def kept(self, config: FeaturesConfig, split: Split) -> Path:
        """Return the folder of a split's features that is kept beside the studies, extracted where it is not there; as for `training`."""
        folder = self.workspace.private / "features" / self.identity.features(config, split)
        if not _holds(folder, split, config):
            with image_bar(f"features {config.encoder} {config.image_size} px") as show:
                extract_features(split, config, folder, self.run, show)
        return folder


def trial_split(split: Split, *, test: bool) -> Split:
    """Return what trials may see of a split: training and test images, or the training images alone."""
    phases = _PHASES if test else ("train",)
    return replace(split, rows=tuple(row for row in split.rows if row.phase in phases))


def _holds(folder: Path, split: Split, config: FeaturesConfig) -> bool:
    """Return whether `folder` has features of all images of a split by these settings."""
    try:
        for phase in _PHASES if folder.is_dir() else ():
            if split.phase(phase):
                open_features(folder, phase, split, config)
    except InputError:
        return False
    return folder.is_dir()


def _has_weights(folder: Path, split: Split, config: FeaturesConfig) -> bool:
    """Return whether features are of the weights that the settings name, which a store knows by their digest."""
    recorded = open_features(folder, "train", split, config).key.weights_sha256
    return configured_encoder(config).weights_sha256 == recorded
