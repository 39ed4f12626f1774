"""YAML as DVC reads it, version 1.2 by ruamel.yaml, and no more of it than settings need.

Aliases may repeat a value, but not so often that a small file stands for a large one; a key that is given twice is an error.
"""

import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode
from ruamel.yaml.resolver import VersionedResolver

__all__ = ["YAMLError", "load_yaml", "yaml_reason"]

MOST_BYTES = 1_000_000
MOST_VALUES = 100_000  # with every alias written out
MOST_LEVELS = 20
MOST_DIGITS = 100
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
        _count(node, (), {})
        return constructor.construct_document(node)
    except (
        ValueError,
        LookupError,
        TypeError,
    ) as error:  # of a number without digits, 0x_, or a tag that does not suit its value
        raise YAMLError(f"a value that is not what it is said to be ({error})") from None
    finally:
        parser.dispose()


def yaml_reason(error: Exception) -> str:
    """Return in one line what is wrong with a text, and where."""
    if isinstance(error, MarkedYAMLError) and error.problem and error.problem_mark:
        return f"{error.problem} at line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"
    return " ".join(str(error).split())


def _error(problem: str, mark: Any) -> MarkedYAMLError:  # noqa: ANN401
    return MarkedYAMLError(problem=problem, problem_mark=mark)


def _count(node: Node, above: tuple[int, ...], counted: dict[int, int]) -> int:
    """Return how many values a node stands for, with its aliases written out; `above`: the nodes that it is in.

    Raises:
        YAMLError: There are too many of them, an anchor is within itself, or a number has too many digits.
    """
    if id(node) in above:
        raise _error("an anchor within itself", node.start_mark)
    if node.tag == f"{_TAG}int" and len(node.value) > MOST_DIGITS:
        raise _error(f"a number of {len(node.value)} digits", node.start_mark)
    if id(node) not in counted:
        parts: list[Node] = node.value if isinstance(node, SequenceNode) else []
        if isinstance(node, MappingNode):
            parts = [part for pair in node.value for part in pair]
        counted[id(node)] = 1 + sum(_count(part, (*above, id(node)), counted) for part in parts)
    if counted[id(node)] > MOST_VALUES:
        raise _error(f"more than {MOST_VALUES} values", node.start_mark)
    return counted[id(node)]
