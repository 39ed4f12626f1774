"""A study: one benchmark, a few settings of it, each trained with several seeds; and the names of its trials."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from invad.config import AS_STORED, TRAIN_CONFIGS, BenchmarkConfig, FeaturesConfig
from invad.config.closure import code_digest
from invad.config.loading import load_yaml, parse_benchmark
from invad.data.split_table import Split
from invad.errors import InputError
from invad.methods import METHODS
from invad.report.ablations import VariantRow

SECTIONS = ("features", "train", "score")  # whose values a study may change
OPTION = "--set"
_OF_ALL_METHODS = ("epochs", "seed", "precision", "channels_last", "compile")


def parse_set(settings: Sequence[str]) -> dict[str, Any]:
    """Return the values of options such as `train.epochs=3`, written as in params.yaml; `InputError` for what is not."""
    changes: dict[str, Any] = {}
    for text in settings:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key:
            raise InputError(f"{OPTION} {text}: expected key=value, such as train.epochs=3")
        try:
            changes[key] = load_yaml(value)
        except InputError:
            raise InputError(f"{OPTION} {key}: {value!r} is no value as in params.yaml") from None
    return changes


def apply(
    benchmark: BenchmarkConfig, changes: Mapping[str, Any], where: str = OPTION, *, methods: bool = False
) -> BenchmarkConfig:
    """Return the benchmark with other values, by dotted key, checked; `methods`: also another method; `InputError` begins with `where`."""
    # Plain values, as if they were read from the file; None where a section has none.
    sections = {name: asdict(getattr(benchmark, name)) for name in ("splits", "calibration", *SECTIONS)}
    for key, value in changes.items():
        section, name = _parse_key(key, benchmark.settings, sections, where)
        if (section, name) != ("train", "model") or value == benchmark.train.model:
            sections[section][name] = value
        elif methods:
            train = asdict(TRAIN_CONFIGS[value]())
            kept = {name: old for name, old in sections["train"].items() if name in _OF_ALL_METHODS and name in train}
            sections["train"] = train | kept
            sections["score"] |= dict.fromkeys(("map_levels", "map_distance", "sigma", "image_score"), "method")
        else:
            raise InputError(f"{where} {key}: {benchmark.name} is of {benchmark.train.model}; edit params.yaml instead")
    changed = parse_benchmark(benchmark.name, benchmark.dataset, sections, f"{where} ")
    return replace(changed, settings=benchmark.settings)


def _parse_key(key: str, settings: str, sections: Mapping[str, Any], where: str) -> tuple[str, str]:
    """Return the section and the key in it that `train.epochs` or `train.<settings>.epochs` names."""
    section, _, name = key.partition(".")
    if section not in SECTIONS or not name:
        raise InputError(f"{where} {key}: unknown key; a key begins with {', '.join(f'{one}.' for one in SECTIONS)}")
    name = name.removeprefix(f"{settings}.")
    if name not in sections[section]:
        raise InputError(f"{where} {key}: unknown key; known are {', '.join(sections[section])}, behind {section}.")
    return section, name


def flat(benchmark: BenchmarkConfig) -> dict[str, Any]:
    """Return all values that `apply` can change, by dotted key."""
    return {
        f"{section}.{key}": value for section in SECTIONS for key, value in asdict(getattr(benchmark, section)).items()
    }


@dataclass(frozen=True)
class Trial:
    """One training of a variant, all its settings said."""

    variant: str
    seed: int
    benchmark: BenchmarkConfig


@dataclass(frozen=True)
class Study:
    """What is compared.

    `name`: of the module, or `tune`. `base`: the benchmark's settings, those of `--set` among them. `seeds`: how many trainings of each
    of `variants`, with the base's seed and the following ones. `validation_share`: of the normal training images, kept to judge trials by
    and chosen by `validation_seed`; 0 to judge by the test images. `data`: a digest of the benchmark's files and of its table; the names of
    things are made of it, and of all else that determines them: settings and code.
    """

    name: str
    base: BenchmarkConfig
    variants: tuple[VariantRow, ...]
    seeds: int = 1
    validation_share: float = 0.0
    validation_seed: int = 0
    data: str = ""

    def of(self, split: Split, files: str) -> "Study":
        """Return the study of a split; `files` is the digest that `source.json` has."""
        return replace(self, data=digest(files, rows_sha256(split)))

    def trials(self) -> list[Trial]:
        """Return all trials, variant by variant, for any folder to run in; `InputError` where one does not fit the benchmark's model."""
        trials, first = [], self.base.train.seed
        for variant in self.variants:
            changed = apply(self.base, variant.changes, f"{self.name} {variant.name}:", methods=True)
            for seed in range(first, first + self.seeds):
                full = replace(changed, features=changed.features.absolute(), train=replace(changed.train, seed=seed))
                trials.append(Trial(variant.name, seed, full))
        return trials

    @property
    def test(self) -> bool:
        """Whether trials are judged by the test images, which no other trial may see."""
        return not self.validation_share

    @property
    def folder(self) -> str:
        """The name of the study's folder: the same with more variants or seeds."""
        unique = self._hash(asdict(self.base) | {"features": _features(self.base.features)})
        return f"{self.name}-{self.base.name}-{unique[:12]}"

    def training(self, trial: Trial) -> str:
        """Return the name of a trial's training; trials that differ in how they are scored only share it."""
        return self._hash(_features(trial.benchmark.features), asdict(trial.benchmark.train))[:16]

    def trial(self, trial: Trial) -> str:
        """Return the name of a trial."""
        unique = digest(self.training(trial), asdict(trial.benchmark.score))
        return f"{trial.variant}-s{trial.seed}-{unique[:12]}"

    def features(self, features: FeaturesConfig, split: Split) -> str:
        """Return the name of a store of the features of `split`, which any study may use."""
        code = code_digest("invad.features.extract")
        unique = digest(_features(features), rows_sha256(split), self.data, code, torch.__version__)
        return f"{self.base.name}-{unique[:16]}"

    def _hash(self, *values: Any) -> str:  # noqa: ANN401  (anything that JSON can hold)
        judged = [self.validation_share, self.validation_seed]
        code = code_digest("invad.studies.trial", *sorted(kind.__module__ for kind in METHODS.values()))
        return digest(self.data, judged, code, torch.__version__, *values)


def digest(*values: Any) -> str:  # noqa: ANN401  (anything that JSON can hold)
    """Return the SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def rows_sha256(split: Split) -> str:
    """Return the SHA-256 of what a split's rows say, and of how its images are read."""
    how = [] if split.reading == AS_STORED else [asdict(split.reading)]
    return digest([vars(row) for row in split.rows], *how)


def _features(config: FeaturesConfig) -> dict[str, Any]:
    """Return the section, with the digest of a weights file in place of its path."""
    path = Path(config.weights)
    weights = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else config.weights
    return asdict(config) | {"weights": weights}
