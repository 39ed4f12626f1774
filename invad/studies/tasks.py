"""What has to be done for the trials of a study: one task for each training, with the features that it reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from invad.config import FeaturesConfig, TrainingConfig
from invad.studies.stores import Stores
from invad.studies.study import Trial, same_training
from invad.studies.trial import TrialTask, Validation, reason
from invad.studies.validation import ValidationSplit

Task = tuple[TrialTask, str]  # with the reason why it cannot be run, empty where it can


@dataclass(frozen=True)
class _Features:
    """The folders of the features of a task's images, and of its validation images; or why there are none."""

    images: str = ""
    validation: str = ""
    error: str = ""


def _feature_finder(stores: Stores, validation: ValidationSplit | None) -> Callable[[FeaturesConfig], _Features]:
    """Return what makes sure that features are there; asked twice for the same it answers, or fails, as before."""
    known: dict[str, _Features] = {}

    def find(config: FeaturesConfig) -> _Features:
        name = stores.identity.features(config, stores.split)
        if name not in known:
            known[name] = _found(config)
        return known[name]

    def _found(config: FeaturesConfig) -> _Features:
        try:
            images = str(stores.training(config).absolute())
            if validation is None:
                return _Features(images)
            return _Features(images, str(stores.validation(config, validation.split).absolute()))
        except Exception as error:  # one encoder that fails, whyever, does not end the trials of the others
            return _Features(error=reason(error))

    return find


def make_tasks(
    trials: Sequence[Trial],
    stores: Stores,
    validation: ValidationSplit | None,
    milestones: tuple[int, ...],
    training: TrainingConfig,
    folder: Path,
) -> list[Task]:
    """Return a task for every training that `trials` need; their features are extracted where they are missing.

    Args:
        trials: Those that are to be run.
        stores: Where features lie.
        validation: The images that trials are judged by while they run, or instead of the test images.
        milestones: The epochs after which they are.
        training: Checkpoints, and the threads of each process.
        folder: Of the study.
    """
    find = _feature_finder(stores, validation)
    tasks = []
    for group in same_training(trials, stores.identity).values():
        features = find(group[0].benchmark.features)
        tasks.append((_task(group, stores, features, validation, milestones, training, folder), features.error))
    return tasks


def _task(
    trials: Sequence[Trial],
    stores: Stores,
    features: _Features,
    validation: ValidationSplit | None,
    milestones: tuple[int, ...],
    training: TrainingConfig,
    folder: Path,
) -> TrialTask:
    """Return what a process has to do for trials that share a training."""
    identity = stores.identity
    return TrialTask(
        folder=str(folder),
        training=identity.training(trials[0]),
        trials=tuple((identity.trial(trial), _anywhere(trial)) for trial in trials),
        split=stores.split,
        features=features.images,
        validation=None if validation is None else Validation(validation, features.validation),
        test=identity.study.test,
        checkpoint_steps=training.checkpoint_steps,
        threads=max(1, int(training.resources_per_worker.cpu)),
        milestones=milestones,
        keep=identity.study.shares_training,
    )


def _anywhere(trial: Trial) -> Trial:
    """Return the trial with the absolute path of a weights file: it runs in another folder."""
    return replace(trial, benchmark=replace(trial.benchmark, features=trial.benchmark.features.absolute()))
