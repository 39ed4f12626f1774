"""The ablation of a module: its variants trained, its tables written."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from invad.config import GradientConfig, Params
from invad.config.constants import PUBLISHED_DATASETS
from invad.data.source import read_source
from invad.errors import InputError
from invad.studies.modules import module_named
from invad.studies.runner import StudyOptions, finished_study
from invad.studies.settings import apply
from invad.studies.study import Study
from invad.studies.trial import TrialResult
from invad.workspace import Workspace

if TYPE_CHECKING:
    from invad.report.ablations import AblationReport


def plan_ablation(module: str, options: StudyOptions, params: Params) -> Study:
    """Return the study that `run_ablation` runs.

    Raises:
        InputError: Module, benchmark, variant, key or value is unknown or wrong, or does not fit the benchmark's model.
    """
    known = module_named(module)
    base = apply(params.benchmark(options.benchmark), options.set)
    study = Study(module, base, known.choose(options.variants), options.seeds)
    study.trials()
    return study


def run_ablation(module: str, options: StudyOptions, params: Params, workspace: Workspace) -> "AblationReport":
    """Train and score what is missing of a module's variants, and write `reports/ablations/<module>.{json,csv,md,tex}`.

    Raises:
        InputError: As for `plan_ablation`; or the split is not built, the machine is too small, or the study is there already.
    """
    from invad.report.ablations import write_ablation

    study = plan_ablation(module, options, params)
    with finished_study(study, options, params, workspace, "ablate", "--module", module) as (results, log_files):
        report = _report(study, results, options, workspace)
        log_files(write_ablation(report, workspace.ablations))
    return report


def ablation_of_params(module: str, params: Params) -> StudyOptions:
    """Return the options that the section `ablations` of params.yaml has for a module.

    Raises:
        InputError: It has none, or there is no such module, variant or key.
    """
    known, where = module_named(module, "params.yaml: ablations"), f"params.yaml: ablations.{module}"
    if module not in params.ablations:
        raise InputError(f"{where}: is missing; there are {', '.join(params.ablations) or 'none'}")
    section = params.ablations[module]
    known.choose(section.variants, f"{where}.variants")
    apply(params.benchmark(section.benchmark), section.set, f"{where}.set:")
    return StudyOptions(section.benchmark, section.set, resume=True, variants=section.variants, seeds=section.seeds)


def _report(
    study: Study, results: Sequence[TrialResult], options: StudyOptions, workspace: Workspace
) -> "AblationReport":
    from invad.report.ablations import AblationReport, VariantRow

    base = study.base
    changed = ", ".join(f"{key} {value}" for key, value in options.set.items())
    length = f"{base.train.epochs} epochs, " if isinstance(base.train, GradientConfig) else ""
    note = (
        f"Unless a variant says otherwise, the settings are those of {base.name} in params.yaml{changed and ' but for '}{changed}: "
        f"{base.features.encoder} at {base.features.image_size} px, {length}batch {base.train.batch_size}."
    )
    return AblationReport(
        module=study.name,
        description=module_named(study.name).description,
        benchmark=base.name,
        data=read_source(workspace.raw(base.dataset)).source if base.dataset in PUBLISHED_DATASETS else "own",
        variants=[VariantRow(one.name, one.note, one.is_paper, dict(one.changes)) for one in study.variants],
        results=list(results),
        notes=[note],
    )
