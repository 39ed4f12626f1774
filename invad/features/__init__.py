"""Features of the frozen encoder: stored on the disk, or computed whenever they are needed."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from invad.config import FeaturesConfig
from invad.data.split_table import Phase, Split
from invad.errors import InputError
from invad.features.extract import LIVE_FILE, extract_features
from invad.features.source import FeatureKey, FeatureSource, LiveFeatures, split_sha256
from invad.features.store import FeatureStore
from invad.files import read_json


def open_features(folder: Path, phase: Phase, split: Split, config: FeaturesConfig) -> FeatureSource:
    """Open the features of `phase` that the stage `features` left in `folder`, and check that they belong to split and settings.

    `InputError`: they are missing, damaged, or belong to other settings; the difference is named.
    """
    if config.mode == "live":
        features: FeatureSource = LiveFeatures(split, phase, config)
        recorded, expected = _recorded_key(folder, phase), asdict(features.key)
    else:
        features = FeatureStore(folder, phase)
        names = ("encoder", "image_size", "precision", "dtype", "levels")
        recorded, expected = asdict(features.key), {name: getattr(config, name) for name in names}
        expected["split_sha256"] = split_sha256(split.phase(phase), split.reading)
    for name, value in expected.items():
        if recorded.get(name) != value:
            raise InputError(
                f"{folder}: {phase} features have {name} {recorded.get(name)}, expected {value}; run `dvc repro features`"
            )
    if len(features) != len(split.phase(phase)):
        raise InputError(f"{folder}: shards of {phase} features are missing; run `dvc repro -f features`")
    return features


def _recorded_key(folder: Path, phase: Phase) -> dict[str, Any]:
    """Return what the stage wrote down instead of features; `InputError` when it has not run, or not for `mode: live`."""
    path = folder / LIVE_FILE
    if not path.exists():
        raise InputError(f"{path}: no such file; `dvc repro features` writes it for `mode: live`")
    try:
        return asdict(FeatureKey.of_plain(read_json(path).get(phase, {})))
    except TypeError:  # of another version
        return {}
