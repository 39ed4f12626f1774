"""Edits of `params.yaml` that leave every other byte of it alone: comments, quotes, spacing, line ends.

The YAML parser says where each key and value stands, and only that text is replaced. Writing the parsed file out again would not do:
even a parser that keeps comments gives the whole file its own spacing.
"""

import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from invad.config import BenchmarkConfig, Params, load_params
from invad.config.yaml_text import Dumper, Loader, load_yaml
from invad.errors import InputError
from invad.files import atomic_path

Keys = tuple[str, ...]  # the way to a value: ("download", "mvtec", "path")
CALIBRATION = {"share": 0.1, "false_positive_rate": 0.01, "seed": 0}  # of a new benchmark
_COPIED_SECTIONS = ("features", "train", "score")
_BENCHMARK_SECTIONS = ("benchmarks", "splits", "calibration", *_COPIED_SECTIONS)
_TRAIN_KEYS = ("workers", "resources_per_worker", "checkpoint_steps")  # stand beside the benchmarks in `train`
_ABSENT = object()


def add_benchmark(
    path: Path,
    name: str,
    *,
    download: Mapping[str, Any],
    splits: Mapping[str, Any],
    like: str | None = None,
    recipe: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Add data set `name` and a benchmark of the same name, calibrated as `CALIBRATION` says, to the settings in `path`.

    Args:
        path: The settings, replaced as a whole when the result is valid.
        name: Of the data set and the benchmark.
        download: Its `download` section, of plain values.
        splits: Its `splits` section, of plain values.
        recipe: What is set otherwise than copied, by section.
        like: Benchmark whose `features`, `train` and `score` are copied; by default the first that is not built on coco, or the first.

    Returns:
        The benchmark they were copied from.

    Raises:
        InputError: `path` is not valid or would not be with the addition, `name` is taken, or there is no benchmark `like`.
    """
    recipe = recipe or {}
    params = load_params(path)
    for section, taken in (("benchmarks", params.benchmarks), ("download", params.download), ("train", _TRAIN_KEYS)):
        if name in taken:
            raise InputError(f"{path}: {section}.{name}: is there already; choose another name")
    like = template(params, like).name
    text = read_settings(path)
    data = load_yaml(text)
    edits: dict[Keys, Any] = {
        ("benchmarks", name): name,
        ("download", name): dict(download),
        ("splits", name): dict(splits),
        ("calibration", name): CALIBRATION | dict(recipe.get("calibration", {})),
        **{(section, name): data[section][like] | dict(recipe.get(section, {})) for section in _COPIED_SECTIONS},
    }
    write_settings(path, edit_settings(text, edits, path))
    return like


def template(params: Params, like: str | None) -> BenchmarkConfig:
    """Return the benchmark `like`, by default the first that is not built on coco, or the first; `InputError` when there is none."""
    if like is None:
        others = (benchmark.name for benchmark in params.benchmarks.values() if benchmark.dataset != "coco")
        like = next(others, next(iter(params.benchmarks)))
    return params.benchmark(like)


def update_download(path: Path, dataset: str, download: Mapping[str, Any]) -> None:
    """Make `download` (plain values) the section of `dataset` in the settings in `path`; what is equal in it stays as it stands.

    Raises:
        InputError: `path` is not valid or would not be afterwards, or it has no such data set.
    """
    load_params(path).dataset(dataset)
    text = read_settings(path)
    write_settings(path, edit_settings(text, {("download", dataset): dict(download)}, path))


def remove_dataset(path: Path, dataset: str, benchmarks: Iterable[str]) -> None:
    """Remove a data set and its `benchmarks` from all sections of the settings in `path`; their comments go with them.

    Raises:
        InputError: `path` is not valid or would not be afterwards (the last benchmark, one that a study needs), or its text does not
            allow it.
    """
    load_params(path)
    text = read_settings(path)
    keys = [("download", dataset), *((section, name) for section in _BENCHMARK_SECTIONS for name in benchmarks)]
    expected = load_yaml(text)
    for section, name in keys:
        if len(expected[section]) == 1:
            raise InputError(f"{path}: {section}.{name}: is the only one; another has to be there first")
        del expected[section][name]
    try:
        for key in keys:
            text = _remove(text, key)
        understood = load_yaml(text) == expected
    except yaml.YAMLError:
        understood = False
    if not understood:
        names = ", ".join(".".join(key) for key in keys)
        raise InputError(f"{path}: its anchors or braces make an edit unsafe; remove by hand: {names}")
    write_settings(path, text)


def read_settings(path: Path) -> str:
    """Return the text of `path` with its own line ends."""
    return path.read_bytes().decode("utf-8")


def write_settings(path: Path, text: str) -> None:
    """Replace `path` by `text`, whole or not at all; `InputError`, and no change, when those are no valid settings."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))
        try:
            load_params(temporary)
        except InputError as error:
            raise InputError(str(error).replace(str(temporary), str(path))) from None


def edit_settings(text: str, edits: Mapping[Keys, Any], path: Path) -> str:
    """Set the values of `edits` in the YAML `text`; a new key comes last in its section. `path` is what an error names.

    Raises:
        InputError: The text does not allow them: a section in braces gets no new key, and what an alias repeats is not replaced.
    """
    expected = load_yaml(text)
    try:
        for keys, value in edits.items():
            *parents, last = keys
            section = expected
            for key in parents:
                section = section[key]
            text = _set(text, keys, section.get(last, _ABSENT), value)
            section[last] = value
        understood = load_yaml(text) == expected
    except (yaml.YAMLError, KeyError):
        understood = False
    if not understood:
        names = ", ".join(".".join(keys) for keys in edits)
        raise InputError(f"{path}: its anchors or braces make an edit unsafe; set by hand: {names}")
    return text


def _set(text: str, keys: Keys, old: Any, value: Any) -> str:  # noqa: ANN401  (anything that YAML can hold)
    if old == value:
        return text
    section = _section(text, keys[:-1])
    entry = next((entry for entry in section.value if entry[0].value == keys[-1]), None)
    if entry is None:
        return _append(text, section, keys[-1], value)
    key_node, value_node = entry
    if _is_block(value_node) and isinstance(old, dict) and isinstance(value, Mapping):
        for key, item in value.items():
            text = _set(text, (*keys, key), old.get(key, _ABSENT), item)
        for key in old:
            if key not in value:
                text = _remove(text, (*keys, key))
        return text
    if _is_block(value_node) or _is_alias(key_node, value_node):
        start, end = _lines(text, key_node, value_node)
        return _splice(text, start, end, _block({keys[-1]: value}, key_node.start_mark.column))
    start, end = value_node.start_mark.index, _end(text, key_node, value_node)
    gap = "" if text[start - 1] == " " else " "  # a key without a value
    return text[:start] + gap + _inline(value) + text[max(start, end) :]


def _append(text: str, section: yaml.MappingNode, key: str, value: Any) -> str:  # noqa: ANN401
    """Add an entry behind the last one, and behind the comments that directly follow it with its indentation."""
    if not _is_block(section):
        raise yaml.YAMLError("a section in braces")
    first_key, _ = section.value[0]
    column = first_key.start_mark.column  # the section's own is that of its anchor, where it has one
    _, position = _lines(text, *section.value[-1])
    while comment := re.compile(r"( *)#.*(\n|$)").match(text, position):
        if len(comment[1]) < max(column, 1):
            break
        position = comment.end()
    return _splice(text, position, position, _block({key: value}, column))


def _remove(text: str, keys: Keys) -> str:
    for key_node, value_node in _section(text, keys[:-1]).value:
        if key_node.value == keys[-1]:
            return _splice(text, *_lines(text, key_node, value_node), "")
    return text  # it comes from a merged anchor, which the final check refuses


def _splice(text: str, start: int, end: int, lines: str) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    before = text[:start] if text[:start].endswith("\n") else text[:start] + newline
    return before + lines.replace("\n", newline) + text[end:]


def _section(text: str, keys: Keys) -> yaml.MappingNode:
    node = _mapping(yaml.compose(text, Loader=Loader), "the file")
    for key in keys:
        node = _mapping(next((value for name, value in node.value if name.value == key), None), key)
    return node


def _mapping(node: yaml.Node | None, name: str) -> yaml.MappingNode:
    if not isinstance(node, yaml.MappingNode):
        raise yaml.YAMLError(f"{name} is no mapping of its own")
    return node


def _is_block(node: yaml.Node) -> bool:
    return isinstance(node, yaml.CollectionNode) and not node.flow_style


def _is_alias(before: yaml.Node, node: yaml.Node) -> bool:
    """Tell whether `*name` stands behind `before`: the node it stands for was written earlier."""
    return node.start_mark.index < before.start_mark.index


def _end(text: str, before: yaml.Node, node: yaml.Node) -> int:
    """Return the index behind the last character of `node`, which follows `before`; the parser's own is behind the comments."""
    if _is_alias(before, node):
        return before.end_mark.index
    if not _is_block(node):
        return len(text[: node.end_mark.index].rstrip())
    last = node.value[-1]
    return _end(text, *last) if isinstance(last, tuple) else _end(text, node, last)


def _lines(text: str, key: yaml.Node, value: yaml.Node) -> tuple[int, int]:
    """Return where the first line of an entry begins and its last line ends."""
    start = text.rfind("\n", 0, key.start_mark.index) + 1
    end = text.find("\n", _end(text, key, value)) + 1
    return start, end or len(text)


class _Dumper(Dumper):
    """Mappings with one key a line, lists in brackets, nothing folded."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401
        return True


_Dumper.add_representer(
    list, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)
)


def _block(value: Mapping[str, Any], column: int) -> str:
    text = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=False, sort_keys=False, allow_unicode=True, width=float("inf")
    )
    return textwrap.indent(text, " " * column)


def _inline(value: Any) -> str:  # noqa: ANN401
    """Write a value on one line; in a list, because YAML ends a lone scalar's document with dots."""
    text = yaml.dump(
        [value], Dumper=_Dumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=float("inf")
    )
    return text.strip()[1:-1]
