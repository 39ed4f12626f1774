"""Reading `params.yaml`, once and as a whole.

Every section is checked before anything runs: an unknown key, a wrong type, a value out of range or a name that is not there is an
`InputError` of one line that names the key and what is accepted. Settings that no benchmark names are taken, for experiments.
"""

import json
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from invad.config.compute import check_image_size
from invad.config.constants import NO_ENCODER, PUBLISHED_DATASETS
from invad.config.methods import INVAD_LITE, TRAIN_CONFIGS, GradientConfig, TrainConfig
from invad.config.sections import (
    SPLIT_CONFIGS,
    BenchmarkConfig,
    BenchmarkEntry,
    CalibrationConfig,
    CocoAdSplitConfig,
    DownloadConfig,
    FeaturesConfig,
    Params,
    ScoreConfig,
    TrainingConfig,
    WorkersConfig,
    dataset_kind,
)
from invad.config.studies import AblationConfig, TuneConfig
from invad.config.types import Name
from invad.config.yaml_text import YAMLError, load_yaml, yaml_reason
from invad.errors import InputError

T = TypeVar("T")
Workers = TypeVar("Workers", bound=WorkersConfig)
NAMED_SECTIONS = ("splits", "calibration", "features", "train", "score")  # of settings by name
SECTIONS = ("download", "benchmarks", *NAMED_SECTIONS, "ablations", "tune")
_OPTIONAL = ("tune",)  # dvc.yaml names all others
_STAGE_KEYS: Mapping[str, type[WorkersConfig]] = {"features": WorkersConfig, "train": TrainingConfig}


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check `path`; `InputError` names the first key that is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run from the folder that holds params.yaml") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not valid YAML: {yaml_reason(error)}") from None
    return parse_params(text, str(path))


def parse_params(text: str, where: str) -> Params:
    """Check the text of a params.yaml; `InputError` begins with `where` and names the first key that is wrong."""
    sections = _read_sections(text, where)
    download = {
        dataset: _parse_download(section, dataset, f"{where}: download.{dataset}")
        for dataset, section in parse(dict[Name, Any], sections["download"], f"{where}: download").items()
    }
    entries = _parse_entries(sections["benchmarks"], download, f"{where}: benchmarks")
    extraction = _parse_workers(WorkersConfig, sections["features"], f"{where}: features")
    training = _parse_workers(TrainingConfig, sections["train"], f"{where}: train")
    named = {key: _named_settings(key, sections[key], f"{where}: {key}") for key in NAMED_SECTIONS}
    benchmarks = {name: _build_benchmark(name, entry, named, where) for name, entry in entries.items()}
    _check_unused(named, {entry.settings for entry in entries.values()}, where)
    ablations = parse(dict[str, AblationConfig], sections["ablations"], f"{where}: ablations")
    for module, ablation in ablations.items():
        if ablation.benchmark not in benchmarks:
            raise InputError(
                f"{where}: ablations.{module}.benchmark: unknown benchmark {ablation.benchmark!r}; known are {', '.join(benchmarks)}"
            )
    tune = parse(TuneConfig, sections["tune"], f"{where}: tune")
    return Params(download, benchmarks, extraction, training, ablations, tune)


def parse_benchmark(
    name: str, dataset: str, sections: Mapping[str, Any], where: str, settings: str | None = None
) -> BenchmarkConfig:
    """Check the sections of one benchmark, given as plain values.

    Args:
        name: Of the benchmark.
        dataset: That it is built from.
        sections: `splits` with its fold, `calibration`, `features`, `train`, `score`.
        where: What an error begins with, such as `params.yaml: `.
        settings: Their name in params.yaml; an error then names `train.<settings>.epochs`, otherwise `train.epochs`.

    Raises:
        InputError: A key is unknown, or a value has the wrong type or range.
    """
    kinds = {
        "splits": SPLIT_CONFIGS[dataset_kind(dataset)],
        **_kinds(sections["train"], f"{where}train.{settings}" if settings else f"{where}train"),
    }
    key = {section: f"{section}.{settings}" if settings else section for section in kinds}
    parsed: dict[str, Any] = {
        section: parse(kind, sections[section], f"{where}{key[section]}") for section, kind in kinds.items()
    }
    features, train, score = parsed["features"], parsed["train"], parsed["score"]
    try:
        check_image_size(features.image_size, train.GRID_MULTIPLE * features.stride)
    except ValueError as error:
        raise InputError(f"{where}{key['features']}.{error} (for `model: {train.model}`)") from None
    if not train.MAP_CHOICES and (score.map_levels, score.map_distance) != ("method", "method"):
        raise InputError(f"{where}{key['score']}: map_levels and map_distance are not for `model: {train.model}`")
    if (features.encoder == NO_ENCODER) != train.SEES_IMAGES:
        sees = "images alone: `encoder: none`, `weights: none`, `mode: live`" if train.SEES_IMAGES else "an encoder"
        raise InputError(f"{where}{key['features']}.encoder: `model: {train.model}` takes {sees}")
    if train.TAKES_BLOCKS and isinstance(features.levels[0], int):
        takes = "groups of a ViT's blocks, such as [[2, 3, 4, 5], [6, 7, 8, 9]]"
        raise InputError(f"{where}{key['features']}.levels: `model: {train.model}` takes {takes}")
    return BenchmarkConfig(name, dataset, **parsed, settings=settings or name)


def _read_sections(text: str, where: str) -> dict[str, dict[str, Any]]:
    try:
        value = load_yaml(text)
    except YAMLError as error:
        raise InputError(f"{where}: not valid YAML: {yaml_reason(error)}") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: must hold the sections {', '.join(SECTIONS)}")
    sections = {key: {} for key in _OPTIONAL} | value
    for key in sections:
        if key not in SECTIONS:
            raise InputError(f"{where}: {key}: unknown section; known are {', '.join(SECTIONS)}")
    for key in SECTIONS:
        if not isinstance(sections.get(key), dict):
            raise InputError(f"{where}: {key}: this section is missing or not a mapping")
        if numbers := [name for name in sections[key] if not isinstance(name, str)]:
            raise InputError(f"{where}: {key}.{numbers[0]}: a name that YAML reads as something else stands in quotes")
    return sections


def _parse_entries(section: Mapping[str, Any], download: Mapping[str, Any], where: str) -> dict[str, BenchmarkEntry]:
    for name, value in section.items():
        if isinstance(value, str):  # as it was before settings had names
            raise InputError(
                f"{where}.{name}: must be a mapping now, such as {{dataset: {value}, settings: {name}}}; the sections "
                f"{', '.join(NAMED_SECTIONS)} may stay as they are, but for the fold of COCO-AD, which moves from splits to here"
            )
    entries = {
        name: parse(BenchmarkEntry, value, f"{where}.{name}")
        for name, value in parse(dict[Name, Any], section, where).items()
    }
    if not entries:
        raise InputError(f"{where}: is empty; give at least one `benchmark: {{dataset: ..., settings: ...}}`")
    for name, entry in entries.items():
        if entry.dataset not in download:
            raise InputError(
                f"{where}.{name}.dataset: unknown data set {entry.dataset!r}; known are {', '.join(download)}"
            )
        if (entry.fold is None) == (dataset_kind(entry.dataset) == "coco"):
            raise InputError(f"{where}.{name}.fold: is needed for COCO-AD, and only there")
    return entries


def _parse_workers(kind: type[Workers], section: Mapping[str, Any], where: str) -> Workers:
    """Return what stands beside the names of settings: how the stage is run."""
    keys = [field.name for field in fields(kind) if field.name in section]
    return parse(kind, {key: section[key] for key in keys}, where)


def _named_settings(key: str, section: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a section's settings by their names."""
    beside = {field.name for field in fields(_STAGE_KEYS[key])} if key in _STAGE_KEYS else set()
    named = parse(dict[Name, Any], {name: value for name, value in section.items() if name not in beside}, where)
    for name, value in named.items():
        if not isinstance(value, dict):
            raise InputError(f"{where}.{name}: must be a mapping, not {value!r}")
    return {name: _of_method(value, f"{where}.{name}") for name, value in named.items()} if key == "train" else named


def _build_benchmark(
    name: str, entry: BenchmarkEntry, named: Mapping[str, Mapping[str, Any]], where: str
) -> BenchmarkConfig:
    sections = {}
    for key, settings in named.items():
        if entry.settings not in settings:
            known = ", ".join(settings) or "none"
            raise InputError(
                f"{where}: {key}.{entry.settings}: is missing; benchmarks.{name}.settings names it, and {key} has {known}"
            )
        sections[key] = settings[entry.settings]
    if entry.fold is not None:
        sections["splits"] = _with_fold(sections["splits"], name, entry, where)
    return parse_benchmark(name, entry.dataset, sections, f"{where}: ", entry.settings)


def _with_fold(splits: Mapping[str, Any], name: str, entry: BenchmarkEntry, where: str) -> dict[str, Any]:
    """Return the section `splits` of COCO-AD with the benchmark's fold, which has to be one of it."""
    key = f"{where}: splits.{entry.settings}"
    if "fold" in splits:
        raise InputError(f"{key}.fold: belongs to the benchmark; write it as benchmarks.{name}.fold")
    held_out = parse(CocoAdSplitConfig, {**splits, "fold": 0}, key).held_out
    parse(CocoAdSplitConfig, {"fold": entry.fold, "held_out": held_out}, f"{where}: benchmarks.{name}")
    return {**splits, "fold": entry.fold}


def _check_unused(named: Mapping[str, Mapping[str, Any]], used: Set[str], where: str) -> None:
    """Check settings that no benchmark names, such as those of an experiment, as far as that goes without a data set."""
    for key in NAMED_SECTIONS[1:]:
        for name, value in named[key].items():
            if name not in used:
                parse(_kinds(value, f"{where}: {key}.{name}")[key], value, f"{where}: {key}.{name}")


def _kinds(train: object, where: str) -> dict[str, type[Any]]:
    """Return the types of the sections that are the same for every data set; `train` says whose recipe it is."""
    recipe = TRAIN_CONFIGS[_known_model(train, where)]
    return {"calibration": CalibrationConfig, "features": FeaturesConfig, "train": recipe, "score": ScoreConfig}


def _known_model(train: object, where: str) -> str:
    """Return the method of a section `train`; `InputError` where there is none of that name."""
    model = train.get("model", TrainConfig.model) if isinstance(train, dict) else TrainConfig.model
    if not (isinstance(model, str) and model in TRAIN_CONFIGS):
        raise InputError(f"{where}.model: must be one of {', '.join(TRAIN_CONFIGS)}, not {model!r}")
    return model


def _of_method(train: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a section `train` without what an edit of `model` alone has left there: another method's usual values.

    Raises:
        InputError: A key is another method's and has a value that somebody has chosen.
    """
    own, of_gradients = (_keys(kind) for kind in (TRAIN_CONFIGS[_known_model(train, where)], GradientConfig))
    kept = {}
    for key, value in train.items():
        defaults = {name: getattr(kind, key, None) for name, kind in TRAIN_CONFIGS.items() if key in _keys(kind)}
        if key in own or not defaults:
            kept[key] = value
        # Where nothing is trained by gradients, epochs do no harm.
        elif key not in of_gradients and value not in [*defaults.values(), INVAD_LITE.get(key)]:
            raise InputError(f"{where}.{key}: is a key of `model: {'`, `'.join(defaults)}` alone; remove it")
    return kept


def _keys(kind: type[TrainConfig]) -> set[str]:
    return {field.name for field in fields(kind)}


def _parse_download(section: object, dataset: str, where: str) -> DownloadConfig:
    kind, keys = dataset_kind(dataset), section if isinstance(section, dict) else {}
    if kind == "table" and "table" not in keys:
        raise InputError(
            f"{where}: unknown data set; known are {', '.join(PUBLISHED_DATASETS)}, and "
            f"`invad-pipe data import {dataset} --images ...` adds your own"
        )
    config = parse(DownloadConfig, section, where)
    if kind == "table" and config.source != "path":
        raise InputError(f"{where}.source: must be 'path' for a data set of your own, not {config.source!r}")
    for key, owner in (("table", "table"), ("images", "coco")):
        if key in keys and kind != owner:
            owners = "a data set of your own" if owner == "table" else owner
            raise InputError(f"{where}.{key}: is a key of {owners} only")
    return config


def parse(kind: type[T], value: object, where: str) -> T:
    """Validate `value`, made of what JSON has, as `kind`.

    `where` is the file and key that an error begins with, or the file alone, with a colon and a space.

    Raises:
        InputError: A key is unknown or missing, or a value has the wrong type or range; the first one is named.
    """
    try:
        # As JSON, because strict validation of Python values takes no mapping for a dataclass.
        return TypeAdapter(kind).validate_json(json.dumps(value, default=str), strict=True)
    except TypeError:
        raise InputError(f"{where}: a key is no text") from None
    except ValidationError as error:
        first, *others = error.errors()
    # The branch of a union ("literal['auto']") and a mapping's "[key]" stand in the location too: no keys of the file.
    keys = [str(part) for part in first["loc"] if str(part).isidentifier()]
    key = where + ".".join(keys) if where.endswith(": ") else ".".join([where, *keys])
    reason, entered = first.get("ctx", {}).get("error"), repr(first["input"])
    known = f"; known are {', '.join(field.name for field in fields(kind))}" if is_dataclass(kind) else ""
    same = [first, *(other for other in others if repr(other["input"]) == entered)]
    accepted = " or ".join(each["msg"].removeprefix("Input should be ") for each in same)
    problems = {
        "json_invalid": f"{where}: cannot be read ({reason})",  # too deep, or text that is no Unicode
        "unexpected_keyword_argument": f"{key}: unknown key{known}",
        "value_error": f"{key}.{reason}",  # from a __post_init__: the message names the key
        "dataclass_type": f"{key}: must be a mapping, not {entered}",
        "missing": f"{key}: is missing",
    }
    raise InputError(problems.get(first["type"], f"{key}: must be {accepted}, not {entered}"))
