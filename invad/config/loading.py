"""Reading `params.yaml`, once and as a whole: an `InputError` of one line names the first key that is wrong, and what is right."""

import json
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from invad.config.constants import NO_ENCODER, PUBLISHED_DATASETS, VIEWED_DATASETS
from invad.config.methods import INVAD_LITE, INVAD_QUICK, TRAIN_CONFIGS, GradientConfig, TrainConfig
from invad.config.sections import (
    AblationConfig,
    BenchmarkConfig,
    BenchmarkEntry,
    CalibrationConfig,
    DownloadConfig,
    FeaturesConfig,
    Params,
    ScoreConfig,
    SupervisedConfig,
    TrainingConfig,
    TrainingsConfig,
    TuneConfig,
    WorkersConfig,
    dataset_kind,
)
from invad.config.splits import SPLIT_CONFIGS
from invad.config.types import Name, check_image_size
from invad.errors import InputError

T = TypeVar("T")
Workers = TypeVar("Workers", bound=WorkersConfig)
NAMED_SECTIONS = ("splits", "calibration", "features", "train", "score")  # of settings by name
TRAININGS_KEYS = tuple(field.name for field in fields(TrainingsConfig))  # of `train`, and no part of the recipe
SECTIONS = ("download", "benchmarks", *NAMED_SECTIONS, "supervised", "ablations", "tune")


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check `path`; `InputError` names the first key that is wrong."""
    try:
        return parse_params(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run from the folder that holds params.yaml") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not valid YAML: {error}") from None


def load_yaml(text: str, where: str = "params.yaml") -> Any:  # noqa: ANN401  (whatever the text says)
    """Return the value of a YAML text, read as DVC reads it: version 1.2 by ruamel.yaml; `InputError` begins with `where`."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        place = (mark := error.problem_mark) and f" at line {mark.line + 1}, column {mark.column + 1}"
        raise InputError(f"{where}: not valid YAML: {error.problem}{place or ''}") from None
    # Also what ruamel raises for a date or a number that is none, and for thousands of brackets within each other.
    except (YAMLError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{where}: not valid YAML: {error}") from None


def parse_params(text: str, where: str) -> Params:
    """Check the text of a params.yaml; `InputError` begins with `where` and names the first key that is wrong."""
    sections = _read_sections(text, where)
    download = {
        dataset: _parse_download(section, dataset, f"{where}: download.{dataset}")
        for dataset, section in parse(dict[Name, Any], sections["download"], f"{where}: download").items()
    }
    extraction = _parse_workers(WorkersConfig, sections["features"], f"{where}: features")
    training = _parse_workers(TrainingConfig, sections["train"], f"{where}: train")
    scoring = _parse_workers(WorkersConfig, sections["score"], f"{where}: score")
    for key in NAMED_SECTIONS:
        for name, value in sections[key].items():
            if not isinstance(value, dict):
                raise InputError(f"{where}: {key}.{name}: must be a mapping, not {value!r}")
    benchmarks = {
        name: _parse_entry(name, value, download, sections, where)
        for name, value in parse(dict[Name, Any], sections["benchmarks"], f"{where}: benchmarks").items()
    }
    if not benchmarks:
        raise InputError(
            f"{where}: benchmarks: is empty; give at least one `benchmark: {{dataset: ..., settings: ...}}`"
        )
    ablations = parse(dict[str, AblationConfig], sections["ablations"], f"{where}: ablations")
    for module, ablation in ablations.items():
        _check_known(ablation.benchmark, benchmarks, f"{where}: ablations.{module}.benchmark: unknown benchmark")
    tune = parse(TuneConfig, sections["tune"], f"{where}: tune")
    supervised = {
        name: _parse_supervised(name, value, benchmarks, f"{where}: supervised.{name}")
        for name, value in parse(dict[Name, Any], sections["supervised"], f"{where}: supervised").items()
    }
    return Params(download, benchmarks, extraction, training, scoring, ablations, tune, supervised)


def parse_benchmark(
    name: str, dataset: str, sections: Mapping[str, Any], where: str, settings: str | None = None
) -> BenchmarkConfig:
    """Check the sections of one benchmark, plain values; `InputError` begins with `where` and names the key, with `settings` if given."""
    key = {section: f"{where}{section}.{settings}" if settings else f"{where}{section}" for section in NAMED_SECTIONS}
    sections, trainings = _trainings(sections, key["train"])
    kinds: dict[str, type[Any]] = {
        "splits": SPLIT_CONFIGS[dataset_kind(dataset)],
        "calibration": CalibrationConfig,
        "features": FeaturesConfig,
        "train": _recipe(sections["train"], key["train"]),
        "score": ScoreConfig,
    }
    beside = {"train": TRAININGS_KEYS}
    parsed: dict[str, Any] = {
        section: parse(kind, sections[section], key[section], beside.get(section, ()))
        for section, kind in kinds.items()
    }
    features, train, score = parsed["features"], parsed["train"], parsed["score"]
    try:
        check_image_size(features.image_size, train.GRID_MULTIPLE * features.stride)
    except ValueError as error:
        raise InputError(f"{key['features']}.{error} (for `model: {train.model}`)") from None
    if train.VIEWS and dataset in set(PUBLISHED_DATASETS) - set(VIEWED_DATASETS):
        raise InputError(
            f"{key['train']}.model: {train.model} sees objects in several views; images of {dataset} stand alone"
        )
    if not train.MAP_CHOICES and (score.map_levels, score.map_distance) != ("method", "method"):
        raise InputError(f"{key['score']}: map_levels and map_distance are not for `model: {train.model}`")
    if (features.encoder == NO_ENCODER) != (train.ENCODER == "none"):
        images = train.ENCODER == "none"
        sees = "images alone: `encoder: none`, `weights: none`, `mode: live`" if images else "an encoder"
        raise InputError(f"{key['features']}.encoder: `model: {train.model}` takes {sees}")
    if train.ENCODER == "own" and (features.mode, isinstance(features.levels[0], int)) != ("live", True):
        takes = "`mode: live` and levels that are strides: it sees images, and its encoder becomes a part of it"
        raise InputError(f"{key['features']}: `model: {train.model}` takes {takes}")
    if train.TAKES_BLOCKS and isinstance(features.levels[0], int):
        takes = "groups of a ViT's blocks, such as [[2, 3, 4, 5], [6, 7, 8, 9]]"
        raise InputError(f"{key['features']}.levels: `model: {train.model}` takes {takes}")
    return BenchmarkConfig(name, dataset, **parsed, settings=settings or name, trainings=trainings)


def _trainings(sections: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], TrainingsConfig]:
    """Take out of the section `train` how many trainings there are; what stays has the seed of the first."""
    train = sections["train"]
    if not isinstance(train, dict):
        return sections, TrainingsConfig()
    own = {key: train[key] for key in TRAININGS_KEYS if key in train}
    trainings = parse(TrainingsConfig, own, where)
    recipe = {key: value for key, value in train.items() if key not in own}
    if trainings.seeds and "seed" in recipe:
        raise InputError(f"{where}.seed: stands beside `seeds`, whose first it is; remove one of them")
    if trainings.seeds:
        recipe["seed"] = trainings.seeds[0]
    return {**sections, "train": recipe}, trainings


def _read_sections(text: str, where: str) -> dict[str, dict[str, Any]]:
    value = load_yaml(text, where)
    if not isinstance(value, dict):
        raise InputError(f"{where}: must hold the sections {', '.join(SECTIONS)}")
    sections = {"tune": {}, "supervised": {}} | value  # dvc.yaml names all others, and has a value for `supervised`
    for key in sections:
        _check_known(key, SECTIONS, f"{where}: unknown section")
    for key in SECTIONS:
        if not isinstance(sections.get(key), dict):
            raise InputError(f"{where}: {key}: this section is missing or not a mapping")
        if numbers := [name for name in sections[key] if not isinstance(name, str)]:
            raise InputError(f"{where}: {key}.{numbers[0]}: a name that YAML reads as something else stands in quotes")
    return sections


def _parse_entry(
    name: str, value: object, download: Mapping[str, Any], sections: Mapping[str, Mapping[str, Any]], where: str
) -> BenchmarkConfig:
    """Return a benchmark with the settings that its entry in `benchmarks` names."""
    here = f"{where}: benchmarks.{name}"
    if isinstance(value, str):  # as it was before settings had names
        raise InputError(
            f"{here}: must be a mapping now, such as {{dataset: {value}, settings: {name}}}; the sections "
            f"{', '.join(NAMED_SECTIONS)} may stay as they are, but for the fold of COCO-AD, which moves from splits to here"
        )
    entry = parse(BenchmarkEntry, value, here)
    _check_known(entry.dataset, download, f"{here}.dataset: unknown data set")
    if (entry.fold is None) == (dataset_kind(entry.dataset) == "coco"):
        raise InputError(f"{here}.fold: is needed for COCO-AD, and only there")
    for key in NAMED_SECTIONS:
        if entry.settings not in sections[key]:
            known = ", ".join(sections[key]) or "none"
            missing = f"{key}.{entry.settings}: is missing; benchmarks.{name}.settings names it, and {key} has {known}"
            raise InputError(f"{where}: {missing}")
    own = {key: sections[key][entry.settings] for key in NAMED_SECTIONS}
    own["train"] = _of_method(own["train"], f"{where}: train.{entry.settings}")
    if entry.fold is not None:
        own["splits"] = own["splits"] | {"fold": entry.fold}
    return parse_benchmark(name, entry.dataset, own, f"{where}: ", entry.settings)


def _parse_supervised(
    name: str, value: object, benchmarks: Mapping[str, BenchmarkConfig], where: str
) -> SupervisedConfig:
    config = parse(SupervisedConfig, value, where)
    if name in benchmarks:
        raise InputError(f"{where}: a benchmark has this name; choose another one")
    for detector in config.detectors:
        _check_known(detector, benchmarks, f"{where}.detectors: unknown benchmark")
    first, *others = (benchmarks[detector] for detector in config.detectors)
    for other in others:
        for key, one, two in (
            ("data set", first.dataset, other.dataset),
            ("image size", first.features.image_size, other.features.image_size),
        ):
            if one != two:
                raise InputError(
                    f"{where}.detectors: {first.name} has the {key} {one}, {other.name} {two}; they must be the same"
                )
    if config.segments == "vad" and first.dataset != "vad":
        raise InputError(f"{where}.segments: vad has the parts of VAD's product, not those of {first.dataset}")
    if config.redraw and not getattr(getattr(first.splits, "labelled", None), "anomalous", 0):
        raise InputError(
            f"{where}.redraw: draws as many images as splits.{first.settings}.labelled.anomalous says, which is 0"
        )
    return config


def _check_known(name: str, known: Collection[str], problem: str) -> None:
    if name not in known:
        raise InputError(f"{problem} {name!r}; known are {', '.join(known)}")


def _parse_workers(kind: type[Workers], section: dict[str, Any], where: str) -> Workers:
    """Take out of a section what says how its stage is run; the settings by name stay."""
    return parse(kind, {field.name: section.pop(field.name) for field in fields(kind) if field.name in section}, where)


def _recipe(train: object, where: str) -> type[TrainConfig]:
    """Return the settings of the method that a section `train` names; `InputError` where there is none of that name."""
    model = train.get("model", TrainConfig.model) if isinstance(train, dict) else TrainConfig.model
    if not (isinstance(model, str) and model in TRAIN_CONFIGS):
        raise InputError(f"{where}.model: must be one of {', '.join(TRAIN_CONFIGS)}, not {model!r}")
    return TRAIN_CONFIGS[model]


def _of_method(train: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a section `train` without another method's usual values, left by an edit of `model`; `InputError`: chosen ones."""
    own = _recipe(train, where)
    kept = {}
    for key, value in train.items():
        others = {name: getattr(kind, key) for name, kind in TRAIN_CONFIGS.items() if key in _keys(kind)}
        if key in _keys(own) or not others:
            kept[key] = value
        # Where nothing is trained by gradients, epochs do no harm.
        elif key not in _keys(GradientConfig) and value not in [
            *others.values(),
            INVAD_LITE.get(key),
            INVAD_QUICK.get(key),
        ]:
            raise InputError(f"{where}.{key}: is a key of `model: {'`, `'.join(others)}` alone; remove it")
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
    if kind != "table" and config.table is not None:
        raise InputError(f"{where}.table: is a key of a data set of your own only")
    return config


def parse(kind: type[T], value: object, where: str, beside: Collection[str] = ()) -> T:
    """Validate plain `value` as `kind`; `InputError` begins with `where` (file and key, or file and `: `) and names the first wrong key.

    beside: further keys that stand in the same section, and are read elsewhere.
    """
    try:
        # As JSON, because strict validation of Python values takes no mapping for a dataclass.
        return TypeAdapter(kind).validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        first, *others = error.errors()
    except (TypeError, ValueError):
        raise InputError(f"{where}: a key is no text, or a value holds itself") from None
    # The branch of a union ("literal['auto']") and a mapping's "[key]" stand in the location too: no keys of the file.
    keys = [str(part) for part in first["loc"] if str(part).isidentifier()]
    key = where + ".".join(keys) if where.endswith(": ") else ".".join([where, *keys])
    reason, entered = first.get("ctx", {}).get("error"), repr(first["input"])
    names = [field.name for field in fields(kind)] if is_dataclass(kind) else []
    known = f"; known are {', '.join([*names, *beside])}" if names else ""
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
