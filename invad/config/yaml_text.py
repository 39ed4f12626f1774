"""YAML as DVC reads it, version 1.2, and no more of it than settings need.

PyYAML reads version 1.1, where 5e-05 and 4e-3 are text, `no` is false and 2026-02-30 a broken date, and it takes a key that is given
twice in silence. Aliases may repeat a value, but not so often that a small file stands for a large one.
"""

import re
from typing import Any

import yaml

MOST_BYTES = 1_000_000
MOST_VALUES = 100_000  # with every alias written out
MOST_LEVELS = 20
MOST_DIGITS = 100

# What plain text is a number, a truth value or nothing: the core schema of YAML 1.2, and DVC's parser takes underscores in numbers.
_RESOLVERS = (
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE"), "tTfF"),
    ("int", re.compile(r"[-+]?(0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)"), "-+0123456789"),
    ("float", re.compile(
        r"[-+]?[0-9][0-9_]*(\.[0-9_]*([eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)|[-+]?\.[0-9][0-9_]*([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
    ), "-+.0123456789"),
    ("null", re.compile(r"~|null|Null|NULL|"), ["~", "n", "N", ""]),
    ("merge", re.compile(r"<<"), "<"),
)  # fmt: skip
_BASES = {"0b": 2, "0o": 8, "0x": 16}


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    found: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for name, pattern, firsts in _RESOLVERS:
        for first in firsts:
            found.setdefault(first, []).append((f"tag:yaml.org,2002:{name}", re.compile(rf"^(?:{pattern.pattern})$")))
    return found


class Loader(yaml.SafeLoader):
    """Reads version 1.2; a key given twice is an error."""

    yaml_implicit_resolvers = _resolvers()
    _level = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401
        """Return the next node; what is nested too deep is refused before it is read to its end."""
        if self._level > MOST_LEVELS:
            raise yaml.MarkedYAMLError(
                problem=f"more than {MOST_LEVELS} levels", problem_mark=self.peek_event().start_mark
            )
        self._level += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._level -= 1

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Return a whole number; one that begins with 0 is not octal here, one that begins with 0o is."""
        text = node.value.replace("_", "")
        digits = text.lstrip("+-")
        value = int(digits[2:], _BASES[digits[:2]]) if digits[:2] in _BASES else int(digits)
        return -value if text.startswith("-") else value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key.value} is given twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)


class Dumper(yaml.SafeDumper):
    """Writes version 1.2: text that would be read as a number is quoted."""

    yaml_implicit_resolvers = _resolvers()


def load_yaml(text: str) -> Any:  # noqa: ANN401  (whatever the text says)
    """Return the value of a YAML text.

    Raises:
        yaml.YAMLError: It is not valid, or holds more than settings do: too much text, too many values or levels, numbers of too many
            digits, tags such as `!!python/name`, or an anchor within itself.
    """
    if len(text) > MOST_BYTES:
        raise yaml.YAMLError(f"more than {MOST_BYTES} characters")
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {}, ())
        return loader.construct_document(node)
    finally:
        loader.dispose()


def yaml_reason(error: Exception) -> str:
    """Return in one line what is wrong with a text, and where."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem and error.problem_mark:
        return f"{error.problem} at line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"
    return " ".join(str(error).split())


def _count(node: yaml.Node, counted: dict[int, int], above: tuple[int, ...]) -> int:
    """Return how many values a node stands for, with its aliases written out; `above`: the nodes that it is in."""
    if id(node) in above:
        raise yaml.MarkedYAMLError(problem="an anchor within itself", problem_mark=node.start_mark)
    if id(node) not in counted:
        _check_plain(node)
        total, inside = 1, (*above, id(node))
        if isinstance(node, yaml.MappingNode):
            total += sum(_count(part, counted, inside) for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            total += sum(_count(part, counted, inside) for part in node.value)
        counted[id(node)] = total
    if counted[id(node)] > MOST_VALUES:
        raise yaml.MarkedYAMLError(problem=f"more than {MOST_VALUES} values", problem_mark=node.start_mark)
    return counted[id(node)]


def _check_plain(node: yaml.Node) -> None:
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    if kind not in ("bool", "int", "float", "null", "merge", "str", "seq", "map"):
        raise yaml.MarkedYAMLError(problem=f"the tag {node.tag} has no place in settings", problem_mark=node.start_mark)
    if kind == "int" and len(node.value) > MOST_DIGITS:
        raise yaml.MarkedYAMLError(problem=f"a number of {len(node.value)} digits", problem_mark=node.start_mark)
    if kind in ("bool", "int", "float", "null") and not _matches(kind, node.value):
        raise yaml.MarkedYAMLError(problem=f"{node.value!r} is no {kind}", problem_mark=node.start_mark)


def _matches(kind: str, text: str) -> bool:
    return next(pattern for name, pattern, _ in _RESOLVERS if name == kind).fullmatch(text) is not None
