"""The ablation of a module: its variants trained, its tables written."""

from invad.config import Params
from invad.config.constants import PUBLISHED_DATASETS
from invad.data.source import read_source
from invad.errors import InputError
from invad.report.ablations import AblationReport, write_ablation
from invad.studies.modules import module_named
from invad.studies.runner import StudyOptions, finished_study
from invad.studies.study import Study, apply
from invad.workspace import Workspace


def plan_ablation(module: str, options: StudyOptions, params: Params) -> Study:
    """Return the study that `run_ablation` runs; `InputError` where a name or value is wrong, or does not fit the benchmark's model."""
    variants = module_named(module).choose(options.variants)
    study = Study(module, apply(params.benchmark(options.benchmark), options.set), variants, options.seeds)
    study.trials()
    return study


def run_ablation(module: str, options: StudyOptions, params: Params, workspace: Workspace) -> AblationReport:
    """Train and score what is missing of a module's variants, and write its tables; `InputError` as for `finished_study`."""
    study = plan_ablation(module, options, params)
    base = study.base
    changed = ", ".join(f"{key} {value}" for key, value in options.set.items())
    length = f"{base.train.length}, " if base.train.length else ""
    note = (
        f"Unless a variant says otherwise, the settings are those of {base.name} in params.yaml{changed and ' but for '}{changed}: "
        f"{base.features.encoder} at {base.features.image_size} px, {length}batch {base.train.batch_size}."
    )
    with finished_study(study, options, params, workspace, "ablate", "--module", module) as (results, log_files):
        data = read_source(workspace.raw(base.dataset)).source if base.dataset in PUBLISHED_DATASETS else "own"
        about = module_named(module).description
        report = AblationReport(module, about, base.name, data, study.variants, results, [note])
        log_files(write_ablation(report, workspace.ablations))
    return report


def ablation_of_params(module: str, params: Params) -> StudyOptions:
    """Return the options that the section `ablations` of params.yaml has for a module; `InputError` where it has none, or wrong ones."""
    where = f"params.yaml: ablations.{module}"
    if module not in params.ablations:
        raise InputError(f"{where}: is missing; there are {', '.join(params.ablations) or 'none'}")
    one = params.ablations[module]
    options = StudyOptions(one.benchmark, one.set, resume=True, variants=one.variants, seeds=one.seeds)
    try:
        plan_ablation(module, options, params)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return options
