"""Reading `params.yaml`, once and as a whole.

Every section is checked before anything runs: an unknown key, a wrong type, a value out of range or a benchmark that is not
there is an `InputError` of one line that names the key and what is accepted.
"""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from invad.config.constants import PUBLISHED_DATASETS
from invad.config.sections import (
    INVAD_LITE,
    SPLIT_CONFIGS,
    TRAIN_CONFIGS,
    BenchmarkConfig,
    CalibrationConfig,
    DownloadConfig,
    FeaturesConfig,
    Params,
    ScoreConfig,
    TrainConfig,
    TrainingConfig,
    WorkersConfig,
    check_image_size,
    dataset_kind,
)
from invad.config.studies import AblationConfig, TuneConfig
from invad.config.types import Name
from invad.config.yaml_text import load_yaml, yaml_reason
from invad.errors import InputError

T = TypeVar("T")
Workers = TypeVar("Workers", bound=WorkersConfig)
_OF_BENCHMARKS = ("splits", "calibration", "features", "train", "score")
SECTIONS = ("download", "benchmarks", *_OF_BENCHMARKS, "ablations", "tune")
_OPTIONAL = ("tune",)  # dvc.yaml names all others


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check `path`; `InputError` names the first key that is wrong."""
    sections = _read_yaml(path)
    for key in sections:
        if key not in SECTIONS:
            raise InputError(f"{path}: {key}: unknown section; known are {', '.join(SECTIONS)}")
    sections = {key: {} for key in _OPTIONAL} | sections
    for key in SECTIONS:
        if not isinstance(sections.get(key), dict):
            raise InputError(f"{path}: {key}: this section is missing or not a mapping")

    download = {
        dataset: _parse_download(section, dataset, f"{path}: download.{dataset}")
        for dataset, section in parse(dict[Name, Any], sections["download"], f"{path}: download").items()
    }

    datasets = parse(dict[Name, str], sections["benchmarks"], f"{path}: benchmarks")
    if not datasets:
        raise InputError(f"{path}: benchmarks: is empty; give at least one `benchmark: data set`")
    for benchmark, dataset in datasets.items():
        if dataset not in download:
            raise InputError(
                f"{path}: benchmarks.{benchmark}: unknown data set {dataset!r}; known are {', '.join(download)}"
            )
    extraction, features = _split_workers(WorkersConfig, sections["features"], f"{path}: features")
    training, train = _split_workers(TrainingConfig, sections["train"], f"{path}: train")
    train = {name: _of_method(section, f"{path}: train.{name}") for name, section in train.items()}
    per_benchmark = {**sections, "features": features, "train": train}
    for name in _OF_BENCHMARKS:
        _same_benchmarks(per_benchmark[name], datasets, f"{path}: {name}")

    benchmarks = {
        name: parse_benchmark(name, dataset, {key: per_benchmark[key][name] for key in _OF_BENCHMARKS}, str(path))
        for name, dataset in datasets.items()
    }
    ablations = parse(dict[str, AblationConfig], sections["ablations"], f"{path}: ablations")
    for module, ablation in ablations.items():
        if ablation.benchmark not in benchmarks:
            raise InputError(
                f"{path}: ablations.{module}.benchmark: unknown benchmark {ablation.benchmark!r}; known are {', '.join(benchmarks)}"
            )
    tune = parse(TuneConfig, sections["tune"], f"{path}: tune")
    return Params(download, benchmarks, extraction, training, ablations, tune)


def _split_workers(kind: type[Workers], section: Mapping[str, Any], where: str) -> tuple[Workers, dict[str, Any]]:
    """Return the keys that say how a section's stage is run, and the rest: the benchmarks."""
    keys = [field.name for field in fields(kind)]
    workers = parse(kind, {key: section[key] for key in keys if key in section}, where)
    return workers, {key: value for key, value in section.items() if key not in keys}


def parse_benchmark(name: str, dataset: str, sections: Mapping[str, Any], where: str) -> BenchmarkConfig:
    """Check the sections of one benchmark, given as plain values; `where` is the file that an error names.

    Raises:
        InputError: A key is unknown, or a value has the wrong type or range.
    """
    model = _model(sections["train"])
    train_kind = TRAIN_CONFIGS[model] if model in list(TRAIN_CONFIGS) else TrainConfig  # which names what is known

    def parsed(key: str, kind: type[T]) -> T:
        return parse(kind, sections[key], f"{where}: {key}.{name}")

    splits = parsed("splits", SPLIT_CONFIGS[dataset_kind(dataset)])
    calibration = parsed("calibration", CalibrationConfig)
    features = parsed("features", FeaturesConfig)
    train = parsed("train", train_kind)
    score = parsed("score", ScoreConfig)
    try:
        check_image_size(features.image_size, train.SIZE_MULTIPLE)
    except ValueError as error:
        raise InputError(f"{where}: features.{name}.{error} (for `model: {model}`)") from None
    if model != "invad" and (score.map_levels, score.map_distance) != ("method", "method"):
        raise InputError(f"{where}: score.{name}: map_levels and map_distance are for `model: invad` only")
    return BenchmarkConfig(name, dataset, splits, features, train, score, calibration)


def _model(train: object) -> Any:  # noqa: ANN401  (whatever the file says)
    return train.get("model", TrainConfig.model) if isinstance(train, dict) else TrainConfig.model


def _of_method(train: object, where: str) -> object:
    """Return a section `train` without what an edit of `model` alone has left there: another method's usual values.

    Raises:
        InputError: A key is another method's and has a value that somebody has chosen.
    """
    model = _model(train)
    if not isinstance(train, dict) or model not in list(TRAIN_CONFIGS):
        return train
    own, kept = {field.name for field in fields(TRAIN_CONFIGS[model])}, dict(train)
    for other, kind in TRAIN_CONFIGS.items():
        for field in fields(kind):
            if field.name in own or field.name not in kept:
                continue
            if kept[field.name] not in (field.default, INVAD_LITE.get(field.name, field.default)):
                raise InputError(f"{where}.{field.name}: is a key of `model: {other}` alone; remove it")
            del kept[field.name]
    return kept


def _parse_download(section: object, dataset: str, where: str) -> DownloadConfig:
    kind = dataset_kind(dataset)
    if kind == "table" and not (isinstance(section, dict) and "table" in section):
        published = ", ".join(PUBLISHED_DATASETS)
        raise InputError(
            f"{where}: unknown data set; known are {published}, and `invad-pipe data import {dataset} --images ...` adds your own"
        )
    config = parse(DownloadConfig, section, where)
    if (config.source == "path") != (config.path is not None):
        raise InputError(f"{where}.path: is needed with `source: path`, and only there")
    if kind == "table" and config.source != "path":
        raise InputError(f"{where}.source: must be 'path' for a data set of your own, not {config.source!r}")
    for key, owner in (("table", "table"), ("images", "coco"), ("classes", "mvtec")):
        if isinstance(section, dict) and key in section and kind != owner:
            owners = "a data set of your own" if owner == "table" else owner
            raise InputError(f"{where}.{key}: is a key of {owners} only")
    return config


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        value = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run from the folder that holds params.yaml") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML: {yaml_reason(error)}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: must hold the sections {', '.join(SECTIONS)}")
    return value


def _same_benchmarks(section: Mapping[str, Any], benchmarks: Mapping[str, str], where: str) -> None:
    known = ", ".join(benchmarks)
    for name in section:
        if name not in benchmarks:
            raise InputError(f"{where}.{name}: unknown benchmark; `benchmarks` lists {known}")
    for name in benchmarks:
        if name not in section:
            raise InputError(f"{where}.{name}: is missing; every benchmark of `benchmarks` ({known}) needs it")


def parse(kind: type[T], value: object, where: str) -> T:
    """Validate `value`, made of what JSON has, as `kind`.

    `where` is the file and key that an error begins with, or the file alone, with a colon and a space.

    Raises:
        InputError: A key is unknown or missing, or a value has the wrong type or range; the first one is named.
    """
    try:
        # As JSON, because strict validation of Python values takes no mapping for a dataclass.
        return TypeAdapter(kind).validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        errors = error.errors()
    first = errors[0]
    # The branch of a union ("literal['auto']") and a mapping's "[key]" stand in the location too: no keys of the file.
    keys = [str(part) for part in first["loc"] if str(part).isidentifier()]
    key = where + ".".join(keys) if where.endswith(": ") else ".".join([where, *keys])
    if first["type"] == "json_invalid":  # too deep, or text that is no Unicode
        raise InputError(f"{where}: cannot be read ({first['ctx']['error']})")
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        accepted = f"; known are {', '.join(field.name for field in fields(kind))}" if is_dataclass(kind) else ""
        raise InputError(f"{key}: unknown key{accepted}")
    if first["type"] == "value_error":  # from a __post_init__: the message names the key
        raise InputError(f"{key}.{first['ctx']['error']}")
    if first["type"] == "dataclass_type":
        raise InputError(f"{key}: must be a mapping, not {first['input']!r}")
    if first["type"] in ("missing", "missing_argument"):
        raise InputError(f"{key}: is missing")
    alternatives = [
        other["msg"].removeprefix("Input should be ")
        for other in errors
        if repr(other["input"]) == repr(first["input"])
    ]
    raise InputError(f"{key}: must be {' or '.join(alternatives)}, not {first['input']!r}")
