"""Edits of `params.yaml` by whole lines: an entry of a section is added, replaced or removed, and no other line changes."""

from collections.abc import Collection, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from invad.config import BenchmarkConfig, Params
from invad.config.loading import NAMED_SECTIONS, TRAININGS_KEYS, load_params, load_yaml, parse_params
from invad.errors import InputError
from invad.files import write_text

Entry = tuple[str, str]  # a section and a name in it
CALIBRATION = {"share": 0.1, "false_positive_rate": 0.01, "seed": 0}  # of a new benchmark
_COPIED_SECTIONS = ("features", "train", "score")
_INDENT = 2  # of the first entry of a section
_WIDTH = 80  # DVC folds longer lines when it writes the settings of an experiment


def add_benchmark(
    path: Path,
    name: str,
    *,
    download: Mapping[str, Any],
    splits: Mapping[str, Any],
    like: str | None = None,
    recipe: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Add data set `name`, and a benchmark and settings of the same name, to the settings in `path`; return the benchmark they are like.

    `download`, `splits`: its sections. `like`: as for `template`: whose `features`, `train` and `score` are copied, for one training.
    `recipe`: what is set otherwise, by section. `InputError`: `path` is not valid or would not be, `name` is taken, there is no `like`.
    """
    recipe, base, text = recipe or {}, template(load_params(path), like), read_settings(path)
    data = load_yaml(text)
    for section in ("benchmarks", "download", *reversed(NAMED_SECTIONS)):
        if name in data[section]:
            raise InputError(f"{path}: {section}.{name}: is there already; choose another name")
    copied = {section: data[section][base.settings] for section in _COPIED_SECTIONS}
    recipe_of_one = {key: value for key, value in copied["train"].items() if key not in TRAININGS_KEYS}
    if "seeds" in copied["train"]:
        recipe_of_one["seed"] = base.train.seed
    copied["train"] = recipe_of_one  # one training, whose test images are looked at in the end
    new = {"splits": dict(splits), "calibration": CALIBRATION, **copied}
    edits: dict[Entry, Any] = {
        ("benchmarks", name): {"dataset": name, "settings": name},
        ("download", name): dict(download),
        **{(section, name): value | dict(recipe.get(section, {})) for section, value in new.items()},
    }
    write_settings(path, edit_settings(text, edits))
    return base.name


def template(params: Params, like: str | None) -> BenchmarkConfig:
    """Return the benchmark `like`, by default the first that is not built on coco, or the first; `InputError` when there is none."""
    if like is None:
        others = (benchmark.name for benchmark in params.benchmarks.values() if benchmark.dataset != "coco")
        like = next(others, next(iter(params.benchmarks)))
    return params.benchmark(like)


def update_download(path: Path, dataset: str, download: Mapping[str, Any]) -> None:
    """Make `download` (plain values) the section of `dataset` in the settings in `path`; `InputError` where those would not be valid."""
    load_params(path).dataset(dataset)
    write_settings(path, edit_settings(read_settings(path), {("download", dataset): dict(download)}))


def remove_dataset(path: Path, dataset: str, benchmarks: Collection[str]) -> None:
    """Remove a data set, `benchmarks` and settings that no other has; `InputError`: what is left would not be valid."""
    params = load_params(path)
    others = {each.settings for each in params.benchmarks.values() if each.name not in benchmarks}
    if not others:
        raise InputError(f"{path}: benchmarks.{', '.join(benchmarks)}: is the only one; another has to be there first")
    settings = {params.benchmark(name).settings for name in benchmarks} - others
    entries = [("download", dataset), *(("benchmarks", name) for name in benchmarks)]
    entries += [(section, name) for section in NAMED_SECTIONS for name in settings]
    write_settings(path, edit_settings(read_settings(path), dict.fromkeys(entries)))


def read_settings(path: Path) -> str:
    """Return the text of `path` with its own line ends."""
    return path.read_bytes().decode("utf-8")


def write_settings(path: Path, text: str) -> None:
    """Replace `path` by `text`, whole or not at all; `InputError`, and no change, when those are no valid settings."""
    parse_params(text, str(path))
    write_text(path, text)


def edit_settings(text: str, edits: Mapping[Entry, Any]) -> str:
    """Return the YAML `text` with entries replaced, added last, or (None) removed; `InputError`: a section is in braces."""
    data, sections = load_yaml(text), _sections(text)
    lines, changes = text.splitlines(), []
    for (section, name), value in edits.items():
        if data[section].get(name) == value:
            continue
        entries = sections[section]
        if data[section] and not entries:
            raise InputError(f"{section}: is written in braces; write its entries in lines of their own")
        if entries:
            indent, *_ = next(iter(entries.values()))
            behind = max(end for _, _, end in entries.values())
        else:
            head = next(number for number, line in enumerate(lines) if line.startswith(f"{section}:"))
            lines[head] = lines[head].replace("{}", "").rstrip()
            indent, behind = _INDENT, head + 1
        _, first, end = entries.get(name, (indent, behind, behind))
        changes.append((first, end, [] if value is None else _entry_lines(name, value, indent)))
    for first, end, new in reversed(sorted(changes, key=lambda change: change[:2])):
        lines[first:end] = new
    newline = "\r\n" if "\r\n" in text else "\n"
    return newline.join([*lines, ""])


def _sections(text: str) -> dict[str, dict[str, tuple[int, int, int]]]:
    """Return of each section the entries by name: their indentation, first line and the line behind them; none of one in braces."""
    root = YAML(typ="safe", pure=True).compose(text)
    return {
        section.value: {
            key.value: (key.start_mark.column, key.start_mark.line, _last_line(key, value) + 1)
            for key, value in ([] if entries.flow_style else entries.value)
        }
        for section, entries in root.value
    }


def _last_line(key: Node, value: Node) -> int:
    """Return the last line of a key and its value; what an alias stands for has its lines elsewhere, above."""
    if not isinstance(value, MappingNode | SequenceNode) or value.flow_style or not value.value:
        return max(key.end_mark.line, value.end_mark.line)
    last = value.value[-1]
    within = _last_line(*last) if isinstance(value, MappingNode) else _last_line(last, last)
    return max(key.end_mark.line, within)


def _entry_lines(name: str, value: Mapping[str, Any], indent: int) -> list[str]:
    """Return an entry in braces where it fits into a line, else with a line for each value."""
    lines: list[str] = []
    for flow_style in (None, False):  # None: in braces is what holds nothing but scalars
        yaml, stream = YAML(typ="safe", pure=True), StringIO()
        yaml.default_flow_style, yaml.width = flow_style, 10_000
        yaml.sort_base_mapping_type_on_output = False
        yaml.indent(mapping=indent)
        yaml.dump({name: value}, stream)
        lines = [f"{' ' * indent}{line}" for line in stream.getvalue().splitlines()]
        if max(map(len, lines)) <= _WIDTH:
            break
    return lines
