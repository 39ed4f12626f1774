"""A study: one benchmark, a few settings of it, each trained with several seeds; and the names of its trials."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from invad.config import AS_STORED, BenchmarkConfig, FeaturesConfig
from invad.config.closure import code_digest
from invad.data.split_table import Split
from invad.methods import METHODS
from invad.studies.modules import Variant
from invad.studies.settings import apply


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
    and chosen by `validation_seed`; 0 to judge by the test images.
    """

    name: str
    base: BenchmarkConfig
    variants: tuple[Variant, ...]
    seeds: int = 1
    validation_share: float = 0.0
    validation_seed: int = 0

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
    def shares_training(self) -> bool:
        """Whether all variants are the same training, scored in several ways."""
        return all(key.startswith("score.") for variant in self.variants for key in variant.changes)


@dataclass(frozen=True)
class Identity:
    """Names things by all that determines them: settings, images and code. `data`: a digest of the benchmark's files and of its table."""

    study: Study
    data: str

    @classmethod
    def of(cls, study: Study, split: Split, files: str) -> "Identity":
        """Return the identity of a study of `split`; `files` is the digest that `source.json` has."""
        return cls(study, digest(files, rows_sha256(split)))

    @property
    def folder(self) -> str:
        """The name of the study's folder: the same with more variants or seeds."""
        base = self.study.base
        unique = self._hash(asdict(base) | {"features": _features(base.features)})
        return f"{self.study.name}-{base.name}-{unique[:12]}"

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
        return f"{self.study.base.name}-{unique[:16]}"

    def _hash(self, *values: Any) -> str:  # noqa: ANN401  (anything that JSON can hold)
        judged = [self.study.validation_share, self.study.validation_seed]
        code = code_digest("invad.studies.trial", *sorted(kind.__module__ for kind in METHODS.values()))
        return digest(self.data, judged, code, torch.__version__, *values)


def digest(*values: Any) -> str:  # noqa: ANN401  (anything that JSON can hold)
    """Return the SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def rows_sha256(split: Split) -> str:
    """Return the SHA-256 of what a split's rows say, and of how its images are read."""
    how = [] if split.reading == AS_STORED else [asdict(split.reading)]
    return digest([[row.image, row.class_name, row.phase, row.label, row.mask] for row in split.rows], *how)


def _features(config: FeaturesConfig) -> dict[str, Any]:
    """Return the section, with the digest of a weights file in place of its path."""
    path = Path(config.weights)
    weights = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else config.weights
    return asdict(config) | {"weights": weights}
