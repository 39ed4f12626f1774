"""Other values of a benchmark's settings, by dotted key: `train.epochs`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import yaml

from invad.config import BenchmarkConfig
from invad.config.loading import parse_benchmark
from invad.config.yaml_text import load_yaml
from invad.errors import InputError

SECTIONS = ("features", "train", "score")
OPTION = "--set"


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
        except yaml.YAMLError:
            raise InputError(f"{OPTION} {key}: {value!r} is no value as in params.yaml") from None
    return changes


def apply(benchmark: BenchmarkConfig, changes: Mapping[str, Any], where: str = OPTION) -> BenchmarkConfig:
    """Return the benchmark with other values, checked as those of params.yaml are.

    Args:
        benchmark: Its settings so far.
        changes: New values by dotted key, `features.*`, `train.*` or `score.*`; the benchmark's name may follow, as in params.yaml.
        where: What a message begins with.

    Raises:
        InputError: A key is unknown, or a value has the wrong type or range; it is named.
    """
    # Plain values, as if they were read from the file; None where a section has none.
    sections = {
        name: asdict(getattr(benchmark, name)) for name in ("splits", "calibration", "features", "train", "score")
    }
    for key, value in changes.items():
        section, _, name = key.partition(".")
        name = name.removeprefix(f"{benchmark.name}.")
        if section not in SECTIONS or not name:
            raise InputError(
                f"{where} {key}: unknown key; a key begins with {', '.join(f'{one}.' for one in SECTIONS)}"
            )
        if name not in sections[section]:
            raise InputError(f"{where} {key}: unknown key; known are {', '.join(sections[section])}")
        if (section, name) == ("train", "model") and value != benchmark.train.model:
            raise InputError(f"{where} {key}: {benchmark.name} is of {benchmark.train.model}; edit params.yaml instead")
        sections[section][name] = value
    try:
        return parse_benchmark(benchmark.name, benchmark.dataset, sections, where)
    except InputError as error:
        message = str(error)
        for section in SECTIONS:  # the benchmark is no part of the key here
            message = message.replace(f"{where}: {section}.{benchmark.name}.", f"{where} {section}.")
        raise InputError(message) from None
