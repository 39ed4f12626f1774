"""A study: one benchmark, a few settings of it, each trained with several seeds; and the names of its trials."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from invad.config import AS_STORED, BenchmarkConfig, FeaturesConfig
from invad.config.closure import code_digest
from invad.data.split_table import Split
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

    `name`: of the module, or `tune`. `base`: the benchmark's settings, those of `--set` among them. `variants`: chosen to run, and
    `all_variants` that there are. `seeds`: how many trainings of each, with the base's seed and the following ones.
    `validation_share`: of the training images kept to judge by, 0 for none, chosen by `validation_seed`; `test`: whether trials end with
    the test images.
    """

    name: str
    base: BenchmarkConfig
    variants: tuple[Variant, ...]
    all_variants: tuple[Variant, ...]
    seeds: int = 1
    validation_share: float = 0.0
    validation_seed: int = 0
    test: bool = True

    def trials(self) -> list[Trial]:
        """Return all trials, variant by variant.

        Raises:
            InputError: A variant does not fit the benchmark's model.
        """
        return [
            Trial(variant.name, seed, replace(changed, train=replace(changed.train, seed=seed)))
            for variant in self.variants
            for changed in [apply(self.base, variant.changes, f"{self.name} {variant.name}:")]
            for seed in range(self.base.train.seed, self.base.train.seed + self.seeds)
        ]

    @property
    def shares_training(self) -> bool:
        """Whether all variants are the same training, scored in several ways."""
        return all(key.startswith("score.") for variant in self.all_variants for key in variant.changes)

    @property
    def validation_side(self) -> int:
        """The most pixels a side of a validation image: twice the largest input of any variant, chosen or not; 0 without validation."""
        sizes = [variant.changes.get("features.image_size", 0) for variant in self.all_variants]
        return 2 * max(self.base.features.image_size, *sizes) if self.validation_share else 0


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
        study, base = self.study, asdict(self.study.base) | {"features": _features(self.study.base.features)}
        return f"{study.name}-{study.base.name}-{self._hash(base)[:12]}"

    def training(self, trial: Trial) -> str:
        """Return the name of a trial's training; trials that differ in how they are scored only share it."""
        return self._hash(_features(trial.benchmark.features), asdict(trial.benchmark.train))[:16]

    def trial(self, trial: Trial) -> str:
        """Return the name of a trial."""
        unique = digest(self.training(trial), asdict(trial.benchmark.score))
        return f"{trial.variant}-s{trial.seed}-{unique[:12]}"

    def features(self, features: FeaturesConfig, split: Split) -> str:
        """Return the name of a store of the features of `split`, which any study may use."""
        unique = digest(
            _features(features), rows_sha256(split), self.data, code_digest("invad.features.extract"), torch.__version__
        )
        return f"{self.study.base.name}-{unique[:16]}"

    def _hash(self, *values: Any) -> str:  # noqa: ANN401  (anything that JSON can hold)
        study = self.study
        judged = [study.validation_share, study.validation_seed, study.validation_side, study.test]
        return digest(self.data, judged, code_digest("invad.studies.trial"), torch.__version__, *values)


def digest(*values: Any) -> str:  # noqa: ANN401  (anything that JSON can hold)
    """Return the SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def rows_sha256(split: Split) -> str:
    """Return the SHA-256 of what a split's rows say, and of how its images are read."""
    how = [] if split.reading == AS_STORED else [asdict(split.reading)]
    return digest([[row.image, row.class_name, row.phase, row.label, row.mask] for row in split.rows], *how)


def same_training(trials: Sequence[Trial], identity: Identity) -> dict[str, list[Trial]]:
    """Return the trials by the name of their training."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(identity.training(trial), []).append(trial)
    return groups


def _features(config: FeaturesConfig) -> dict[str, Any]:
    """Return the section, with the digest of a weights file in place of its path."""
    path = Path(config.weights)
    weights = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else config.weights
    return asdict(config) | {"weights": weights}
