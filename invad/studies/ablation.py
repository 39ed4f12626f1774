"""The ablation of a module: its variants trained, its tables written."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from invad.config import Params
from invad.config.constants import PUBLISHED_DATASETS
from invad.data.source import read_source
from invad.errors import InputError
from invad.studies.driver import StudyOptions, run_study
from invad.studies.modules import module_named
from invad.studies.results import TrialResult
from invad.studies.settings import apply
from invad.studies.study import Study, Trial
from invad.workspace import Workspace

if TYPE_CHECKING:
    from invad.report.ablations import AblationReport

EARLY_STOP_NOTE = (
    "Early stopping: of each class's normal training images, a share of {share:g} was kept from all trainings, to decide by synthetic "
    "defects in them which go on; a trial that was stopped has no metrics."
)


@dataclass(frozen=True)
class AblationOptions(StudyOptions):
    """`variants`: some of the module's, all where none are named. `seeds`: how many trainings of each."""

    variants: tuple[str, ...] = ()
    seeds: int = 1


def plan_ablation(module: str, options: AblationOptions, params: Params) -> Study:
    """Return the study that `run_ablation` runs.

    Raises:
        InputError: Module, benchmark, variant, key or value is unknown or wrong, or does not fit the benchmark's model.
    """
    known = module_named(module)
    base = apply(params.benchmark(options.benchmark), options.set)
    if options.seeds < 1:
        raise InputError(f"--seeds: must be at least 1, not {options.seeds}")
    study = Study(
        name=module,
        base=base,
        variants=known.choose(options.variants),
        all_variants=known.variants,
        seeds=options.seeds,
        validation_share=params.tune.validation_share if options.early_stop else 0.0,
        validation_seed=params.tune.seed,
    )
    study.trials()
    return study


def run_ablation(module: str, options: AblationOptions, params: Params, workspace: Workspace) -> "AblationReport":
    """Train and score what is missing of a module's variants, and write `reports/ablations/<module>.{csv,md,tex,png}`.

    Raises:
        InputError: As for `plan_ablation`; or the split is not built, the machine is too small, or the study is there already.
    """
    from invad.report.ablations import write_ablation

    study = plan_ablation(module, options, params)
    return run_study(
        study,
        options,
        params,
        workspace,
        report=lambda results: _report(study, results, workspace, _notes(study, options)),
        write=lambda report: write_ablation(report, workspace.ablations),
        command=partial(_command, module, options),
    )


def _command(module: str, options: AblationOptions, trial: Trial | None) -> str:
    """Return the command that runs the study, or of it one trial alone."""
    if trial is not None:
        alone = {**options.set, "train.seed": trial.seed}
        options = replace(options, variants=(trial.variant,), seeds=1, set=alone)
    words = ["invad-pipe", "ablate", "--module", module, *options.words()]
    words += ["--variants", ",".join(options.variants)] if options.variants else []
    return shlex.join([*words, *(["--seeds", str(options.seeds)] if options.seeds > 1 else [])])


def ablation_of_params(module: str, params: Params) -> AblationOptions:
    """Return the options that the section `ablations` of params.yaml has for a module.

    Raises:
        InputError: It has none, or there is no such module, variant or key.
    """
    known = module_named(module, "params.yaml: ablations")
    if module not in params.ablations:
        raise InputError(
            f"params.yaml: ablations.{module}: is missing; there are {', '.join(params.ablations) or 'none'}"
        )
    section, where = params.ablations[module], f"params.yaml: ablations.{module}"
    known.choose(section.variants, f"{where}.variants")
    apply(params.benchmark(section.benchmark), section.set, f"{where}.set:")
    return AblationOptions(
        benchmark=section.benchmark, set=section.set, resume=True, variants=section.variants, seeds=section.seeds
    )


def _report(
    study: Study, results: Sequence[TrialResult], workspace: Workspace, notes: Sequence[str]
) -> "AblationReport":
    from invad.report.ablations import AblationReport, VariantRow

    dataset = study.base.dataset
    source = read_source(workspace.raw(dataset)).source if dataset in PUBLISHED_DATASETS else "own"
    return AblationReport(
        module=study.name,
        description=module_named(study.name).description,
        benchmark=study.base.name,
        data=source,
        variants=[
            VariantRow(variant.name, variant.note, variant.is_paper, dict(variant.changes))
            for variant in study.variants
        ],
        results=list(results),
        notes=list(notes),
    )


def _notes(study: Study, options: AblationOptions) -> list[str]:
    """Return what a reader has to know of how the numbers came about."""
    base = study.base
    changed = "".join(f", {key} {value}" for key, value in options.set.items())
    encoder = f"{base.features.encoder} at {base.features.image_size} px"
    shown = [
        f"Unless a variant says otherwise, the settings are those of {base.name} in params.yaml{' but for' if changed else ''}"
        f"{changed.removeprefix(',')}: {encoder}, {base.train.epochs} epochs, batch {base.train.batch_size}."
    ]
    if study.validation_share:
        shown.append(EARLY_STOP_NOTE.format(share=study.validation_share))
    return shown
