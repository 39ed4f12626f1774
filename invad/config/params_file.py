"""Edits of `params.yaml` by ruamel.yaml, which keeps comments, order, quotes and braces; it makes spaces regular where they are not."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from io import StringIO
from itertools import takewhile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark
from ruamel.yaml.tokens import CommentToken
from ruamel.yaml.util import load_yaml_guess_indent

from invad.config import BenchmarkConfig, Params
from invad.config.loading import NAMED_SECTIONS, load_params, parse_params
from invad.config.yaml_text import load_yaml
from invad.errors import InputError
from invad.files import write_text

Keys = tuple[str, ...]  # the way to a value: ("download", "mvtec", "path")
CALIBRATION = {"share": 0.1, "false_positive_rate": 0.01, "seed": 0}  # of a new benchmark
_COPIED_SECTIONS = ("features", "train", "score")
_BYTE_ORDER_MARK = "\ufeff"


def add_benchmark(
    path: Path,
    name: str,
    *,
    download: Mapping[str, Any],
    splits: Mapping[str, Any],
    like: str | None = None,
    recipe: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Add data set `name`, and a benchmark and settings of the same name, calibrated as `CALIBRATION` says, to the settings in `path`.

    Args:
        path: The settings, replaced as a whole when the result is valid.
        name: Of the data set, the benchmark and its settings.
        download: Its `download` section, of plain values.
        splits: Its `splits` section, of plain values.
        recipe: What is set otherwise than copied, by section.
        like: Benchmark whose `features`, `train` and `score` are copied; by default the first that is not built on coco, or the first.

    Returns:
        The benchmark they were copied from.

    Raises:
        InputError: `path` is not valid or would not be with the addition, `name` is taken, or there is no benchmark `like`.
    """
    recipe, params, text = recipe or {}, load_params(path), read_settings(path)
    data = load_yaml(text)
    for section in ("benchmarks", "download", *reversed(NAMED_SECTIONS)):
        if name in data[section]:
            raise InputError(f"{path}: {section}.{name}: is there already; choose another name")
    like = template(params, like).name
    copied = params.benchmark(like).settings
    edits: dict[Keys, Any] = {
        ("benchmarks", name): {"dataset": name, "settings": name},
        ("download", name): dict(download),
        ("splits", name): dict(splits),
        ("calibration", name): CALIBRATION | dict(recipe.get("calibration", {})),
        **{(section, name): data[section][copied] | dict(recipe.get(section, {})) for section in _COPIED_SECTIONS},
    }
    write_settings(path, edit_settings(text, edits))
    return like


def template(params: Params, like: str | None) -> BenchmarkConfig:
    """Return the benchmark `like`, by default the first that is not built on coco, or the first; `InputError` when there is none."""
    if like is None:
        others = (benchmark.name for benchmark in params.benchmarks.values() if benchmark.dataset != "coco")
        like = next(others, next(iter(params.benchmarks)))
    return params.benchmark(like)


def update_download(path: Path, dataset: str, download: Mapping[str, Any]) -> None:
    """Make `download` (plain values) the section of `dataset` in the settings in `path`.

    Raises:
        InputError: `path` is not valid or would not be afterwards, or it has no such data set.
    """
    load_params(path).dataset(dataset)
    write_settings(path, edit_settings(read_settings(path), {("download", dataset): dict(download)}))


def remove_dataset(path: Path, dataset: str, benchmarks: Collection[str]) -> None:
    """Remove a data set, its `benchmarks` and the settings that no other benchmark has from the settings in `path`.

    Raises:
        InputError: `path` is not valid or would not be afterwards (the last benchmark, one that a study needs).
    """
    params, text = load_params(path), read_settings(path)
    others = {each.settings for each in params.benchmarks.values() if each.name not in benchmarks}
    if not others:
        raise InputError(f"{path}: benchmarks.{', '.join(benchmarks)}: is the only one; another has to be there first")
    settings = {params.benchmark(name).settings for name in benchmarks} - others
    keys = [("download", dataset), *(("benchmarks", name) for name in benchmarks)]
    keys += [(section, name) for section in NAMED_SECTIONS for name in sorted(settings)]
    write_settings(path, edit_settings(text, {}, removed=keys))


def read_settings(path: Path) -> str:
    """Return the text of `path` with its own line ends."""
    return path.read_bytes().decode("utf-8")


def write_settings(path: Path, text: str) -> None:
    """Replace `path` by `text`, whole or not at all; `InputError`, and no change, when those are no valid settings."""
    parse_params(text, str(path))
    write_text(path, text)


def edit_settings(text: str, edits: Mapping[Keys, Any], removed: Iterable[Keys] = ()) -> str:
    """Return the YAML `text` with other values, a new key last in its section, and without the keys `removed`."""
    mark = _BYTE_ORDER_MARK if text.startswith(_BYTE_ORDER_MARK) else ""
    newline = "\r\n" if "\r\n" in text else "\n"
    plain = text.removeprefix(mark).replace("\r\n", "\n")
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = len(plain) + 10_000  # nothing is folded
    _, indent, _ = load_yaml_guess_indent(plain)
    yaml.indent(mapping=indent or 2)
    data = yaml.load(plain)
    for keys, value in edits.items():
        _set(_section(data, keys), keys[-1], value)
    for keys in removed:
        _remove(_section(data, keys), keys[-1])
    stream = StringIO()
    yaml.dump(data, stream)
    return mark + stream.getvalue().replace("\n", newline)


def _section(data: CommentedMap, keys: Keys) -> CommentedMap:
    for key in keys[:-1]:
        data = data[key]
    return data


def _set(section: CommentedMap, key: str, value: Any) -> None:  # noqa: ANN401  (anything that YAML can hold)
    old, names = section.get(key), list(section)
    if key in section and old == value:
        return
    behind = _take_comments(section, key if key in section else names[-1]) if names else ""
    if isinstance(value, Mapping) and isinstance(old, CommentedMap) and not (old.merge or old.yaml_anchor()):
        for name, item in value.items():
            _set(old, name, item)
        for name in [name for name in old if name not in value]:
            _remove(old, name)
    else:
        section[key] = _commented(value, in_braces=_is_in_braces(section))
    _give_comments(section, key, behind)


def _remove(section: CommentedMap, key: str) -> None:
    names = list(section)
    behind, at = _take_comments(section, key), names.index(key)
    del section[key]
    if at:
        _give_comments(section, names[at - 1], behind)


def _commented(value: Any, *, in_braces: bool) -> Any:  # noqa: ANN401
    if isinstance(value, Sequence) and not isinstance(value, str):
        node = CommentedSeq(value)
        node.fa.set_flow_style()
        return node
    if not isinstance(value, Mapping):
        return value
    node = CommentedMap({key: _commented(item, in_braces=in_braces) for key, item in value.items()})
    if in_braces:
        node.fa.set_flow_style()
    return node


def _is_in_braces(section: CommentedMap) -> bool:
    """Tell whether the last mapping in a section is written in braces."""
    mappings = [value for value in section.values() if isinstance(value, CommentedMap)]
    return bool(mappings) and mappings[-1].fa.flow_style() is True


def _last_line(section: CommentedMap, key: str) -> tuple[CommentedMap | CommentedSeq, Any]:
    """Return the mapping or list, and the key or index in it, of the last line of an entry: there ruamel keeps the comments behind it."""
    holder: CommentedMap | CommentedSeq = section
    at: Any = key
    while _has_lines(holder[at]) and not _is_alias(holder, at):
        holder = holder[at]
        at = len(holder) - 1 if isinstance(holder, CommentedSeq) else list(holder)[-1]
    return holder, at


def _has_lines(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, CommentedMap | CommentedSeq) and len(value) > 0 and not value.fa.flow_style()


def _is_alias(holder: CommentedMap | CommentedSeq, at: Any) -> bool:  # noqa: ANN401
    """Tell whether an entry repeats one that stands before it in the same mapping."""
    if isinstance(holder, CommentedSeq):
        return False
    return any(holder[key] is holder[at] for key in takewhile(lambda key: key != at, holder))


def _take_comments(section: CommentedMap, key: str) -> str:
    """Remove and return the lines of comments behind an entry, which are those of the next one; what stands on its own lines stays."""
    holder, at = _last_line(section, key)
    place = 0 if isinstance(holder, CommentedSeq) else 2
    token = (holder.ca.items.get(at) or [None] * 4)[place]
    if token is None:
        return ""
    own, _, behind = token.value.partition("\n")
    holder.ca.items[at][place] = CommentToken(f"{own}\n", token.start_mark) if own else None
    return behind


def _give_comments(section: CommentedMap, key: str, behind: str) -> None:
    if not behind:
        return
    holder, at = _last_line(section, key)
    place = 0 if isinstance(holder, CommentedSeq) else 2
    slots = holder.ca.items.setdefault(at, [None] * 4)
    own = slots[place].value.partition("\n")[0] if slots[place] else ""
    slots[place] = CommentToken(f"{own}\n{behind}", CommentMark(0))
