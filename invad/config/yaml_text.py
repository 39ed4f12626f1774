"""YAML as DVC reads it, version 1.2 by ruamel.yaml, and no more of it than settings need.

Aliases may repeat a value, but not so often that a small file stands for a large one; a key that is given twice is an error.
"""

import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.resolver import VersionedResolver

__all__ = ["YAMLError", "load_yaml", "yaml_reason"]

MOST_BYTES = 1_000_000
MOST_VALUES = 100_000  # with every alias written out
MOST_LEVELS = 20
MOST_DIGITS = 100
_PLAIN_KINDS = ("bool", "int", "float", "null")
_KINDS = (*_PLAIN_KINDS, "merge", "str", "seq", "map")
_TAG = "tag:yaml.org,2002:"


class _Composer(Composer):
    """Refuses what is nested too deep before it is read to its end."""

    _level = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:  # noqa: ANN401
        if self._level > MOST_LEVELS:
            raise _error(f"more than {MOST_LEVELS} levels", self.parser.peek_event().start_mark)
        self._level += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._level -= 1


class _Resolver(VersionedResolver):
    """Takes a date for text: none has a place in settings."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:  # noqa: ANN401
        tag = super().resolve(kind, value, implicit)
        return super().resolve(kind, "", (False, False)) if str(tag) == f"{_TAG}timestamp" else tag


def load_yaml(text: str) -> Any:  # noqa: ANN401  (whatever the text says)
    """Return the value of a YAML text.

    Raises:
        YAMLError: It is not valid, or holds more than settings do: too much text, too many values or levels, numbers of too many
            digits, tags such as `!!python/name`, or an anchor within itself.
    """
    if len(text) > MOST_BYTES:
        raise YAMLError(f"more than {MOST_BYTES} characters")
    if re.search(r"^%", text, re.MULTILINE):
        raise YAMLError("a directive such as %YAML has no place in settings")
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer, yaml.Resolver = _Composer, _Resolver
    constructor, parser = yaml.get_constructor_parser(text)
    try:
        node = constructor.composer.get_single_node()
        if node is None:
            return None
        _Check(constructor.resolver).count(node, ())
        return constructor.construct_document(node)
    except ValueError as error:  # of a number without digits, 0x_
        raise YAMLError(str(error)) from None
    finally:
        parser.dispose()


def yaml_reason(error: Exception) -> str:
    """Return in one line what is wrong with a text, and where."""
    if isinstance(error, MarkedYAMLError) and error.problem and error.problem_mark:
        return f"{error.problem} at line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"
    return " ".join(str(error).split())


def _error(problem: str, mark: Any) -> MarkedYAMLError:  # noqa: ANN401
    return MarkedYAMLError(problem=problem, problem_mark=mark)


class _Check:
    """Refuses nodes that have no place in settings, each once, also where aliases repeat it."""

    def __init__(self, resolver: VersionedResolver) -> None:
        self._resolver = resolver
        self._counted: dict[int, int] = {}

    def count(self, node: Node, above: tuple[int, ...]) -> int:
        """Return how many values a node stands for, with its aliases written out; `above`: the nodes that it is in."""
        if id(node) in above:
            raise _error("an anchor within itself", node.start_mark)
        if id(node) not in self._counted:
            inside = (*above, id(node))
            self._counted[id(node)] = 1 + sum(self.count(part, inside) for part in self._parts(node))
        if self._counted[id(node)] > MOST_VALUES:
            raise _error(f"more than {MOST_VALUES} values", node.start_mark)
        return self._counted[id(node)]

    def _parts(self, node: Node) -> list[Node]:
        if not str(node.tag).startswith(_TAG) or str(node.tag).removeprefix(_TAG) not in _KINDS:
            raise _error(f"the tag {node.tag} has no place in settings", node.start_mark)
        if isinstance(node, MappingNode):
            seen = set()
            for key, _ in node.value:
                if isinstance(key, ScalarNode) and key.value in seen:
                    raise _error(f"the key {key.value} is given twice", key.start_mark)
                seen.add(key.value if isinstance(key, ScalarNode) else None)
            return [part for pair in node.value for part in pair]
        if isinstance(node, SequenceNode):
            return node.value
        self._check_plain(node)
        return []

    def _check_plain(self, node: Node) -> None:
        kind = str(node.tag).removeprefix(_TAG)
        if kind == "int" and len(node.value) > MOST_DIGITS:
            raise _error(f"a number of {len(node.value)} digits", node.start_mark)
        if kind in _PLAIN_KINDS and self._resolver.resolve(ScalarNode, node.value, (True, False)) != node.ctag:
            raise _error(f"{node.value!r} is no {kind}", node.start_mark)
