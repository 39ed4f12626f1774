"""Other values of a benchmark's settings, by dotted key: `train.epochs`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from invad.config import TRAIN_CONFIGS, BenchmarkConfig
from invad.config.loading import load_yaml, parse_benchmark
from invad.errors import InputError

SECTIONS = ("features", "train", "score")
OPTION = "--set"
_OF_ALL_METHODS = ("epochs", "seed", "precision", "channels_last", "compile")


def parse_set(settings: Sequence[str]) -> dict[str, Any]:
    """Return the values of options such as `train.epochs=3`; a value is written as in params.yaml.

    Raises:
        InputError: There is no `=` in one, its value is not YAML, or a key is given twice.
    """
    changes: dict[str, Any] = {}
    for text in settings:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key:
            raise InputError(f"{OPTION} {text}: expected key=value, such as train.epochs=3")
        if key in changes:
            raise InputError(f"{OPTION} {key}: is given twice")
        try:
            changes[key] = load_yaml(value)
        except InputError:
            raise InputError(f"{OPTION} {key}: {value!r} is no value as in params.yaml") from None
    return changes


def apply(
    benchmark: BenchmarkConfig, changes: Mapping[str, Any], where: str = OPTION, *, methods: bool = False
) -> BenchmarkConfig:
    """Return the benchmark with other values, checked as those of params.yaml are; `InputError` begins with `where` and names the key.

    `changes`: by dotted key, such as `train.epochs`, or with the name of its settings, as in params.yaml. `methods`: whether `train.model`
    may be another method, which then has its own defaults, but the benchmark's epochs where both have some, seed and precision.
    """
    # Plain values, as if they were read from the file; None where a section has none.
    sections = {
        name: asdict(getattr(benchmark, name)) for name in ("splits", "calibration", "features", "train", "score")
    }
    for key, value in changes.items():
        section, name = _parse_key(key, benchmark, where)
        if (section, name) != ("train", "model") or value == benchmark.train.model:
            sections[section][name] = value
        elif methods:
            sections |= _of_method(value, sections)
        else:
            raise InputError(f"{where} {key}: {benchmark.name} is of {benchmark.train.model}; edit params.yaml instead")
    changed = parse_benchmark(benchmark.name, benchmark.dataset, sections, f"{where} ")
    return replace(changed, settings=benchmark.settings)


def _of_method(model: str, sections: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the sections `train` and `score` of another method."""
    train = asdict(TRAIN_CONFIGS[model]())
    kept = {key: value for key, value in sections["train"].items() if key in _OF_ALL_METHODS and key in train}
    return {"train": train | kept, "score": sections["score"] | {"map_levels": "method", "map_distance": "method"}}


def _parse_key(key: str, benchmark: BenchmarkConfig, where: str) -> tuple[str, str]:
    """Return the section and the key in it that `train.epochs` or `train.<settings>.epochs` names."""
    section, _, name = key.partition(".")
    if section not in SECTIONS or not name:
        raise InputError(f"{where} {key}: unknown key; a key begins with {', '.join(f'{one}.' for one in SECTIONS)}")
    name, known = name.removeprefix(f"{benchmark.settings}."), list(asdict(getattr(benchmark, section)))
    if name not in known:
        settings = f"{section}.{benchmark.settings}"
        raise InputError(f"{where} {key}: unknown key; known are {', '.join(known)}, behind {section} or {settings}")
    return section, name


def flat(benchmark: BenchmarkConfig) -> dict[str, Any]:
    """Return all values that `apply` can change, by dotted key."""
    return {
        f"{section}.{key}": value for section in SECTIONS for key, value in asdict(getattr(benchmark, section)).items()
    }
