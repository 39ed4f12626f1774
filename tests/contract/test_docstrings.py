"""Docstrings say what can be checked of them: arguments and attributes that there are, and that a mistake of the user is refused.

Ruff asks for a docstring on everything public. Its rules for `Raises:` do not fit: an `InputError` that is documented where it leaves the
package is often raised further in. Shapes and units of arrays cannot be checked.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from conftest import REPOSITORY

Definition = ast.FunctionDef | ast.ClassDef
REFUSALS = {"InputError", "NotFiniteError", "TooManyPixelsError"}


@dataclass(frozen=True)
class Documented:
    """A function or class, the class that it is in, and its docstring."""

    node: Definition
    owner: ast.ClassDef | None
    text: str


def documented(tree: ast.Module) -> Iterator[Documented]:
    """Everything public of a module: functions, classes and their methods; of private classes nothing."""
    waiting: list[tuple[ast.stmt, ast.ClassDef | None]] = [(node, None) for node in tree.body]
    for node, owner in waiting:
        if isinstance(node, Definition) and not (node.name.startswith("_") and not node.name.endswith("__")):
            yield Documented(node, owner, ast.get_docstring(node) or "")
            if isinstance(node, ast.ClassDef):
                waiting += [(inner, node) for inner in node.body]


def section(text: str, name: str) -> set[str] | None:
    """The names that a section describes, one or several to a line; None where there is no such section."""
    match = re.search(rf"^{name}:\n((?:    .*\n|\n)*)", f"{text}\n", re.MULTILINE)
    if match is None:
        return None
    return {
        name.strip(" *") for line in re.findall(r"^    (\S[^:]*):", match[1], re.MULTILINE) for name in line.split(",")
    }


def arguments(function: ast.FunctionDef) -> set[str]:
    given = function.args
    some = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    return {argument.arg for argument in some} - {"self", "cls"}


def raised(function: ast.FunctionDef) -> set[str]:
    """The names of what a function raises itself, not functions in it."""
    names, waiting = set(), list(function.body)
    for node in waiting:
        if isinstance(node, Definition | ast.Lambda):
            continue
        if isinstance(node, ast.Raise) and node.exc is not None:
            error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            names |= {error.id} if isinstance(error, ast.Name) else set()
        waiting += ast.iter_child_nodes(node)
    return names


def problems(tree: ast.Module, *, command_line: bool) -> Iterator[str]:
    """Each is `line: what is wrong`. The docstrings of commands are their help, and all of them refuse what is wrong."""
    for found in documented(tree):
        node, owner = found.node, found.owner
        place = f"{node.lineno}: {f'{owner.name}.' if owner else ''}{node.name}"
        if isinstance(node, ast.ClassDef):
            attributes = section(found.text, "Attributes") or set()
            fields = {inner.target.id for inner in node.body if isinstance(inner, ast.AnnAssign)}
            is_dataclass = any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
            if is_dataclass and attributes - fields:
                yield f"{place}: Attributes: has {sorted(attributes - fields)}, which are none"
            continue
        is_init = owner is not None and node.name in ("__init__", "__post_init__")  # whose class may say it
        text = f"{found.text}\n\n{ast.get_docstring(owner) or ''}" if is_init else found.text
        described = section(text, "Args")
        if described is not None and described != arguments(node):
            yield f"{place}: Args: has {sorted(described)}, but it takes {sorted(arguments(node))}"
        silent = {name for name in raised(node) & REFUSALS if name not in text}
        if silent and not command_line:
            yield f"{place}: raises {', '.join(sorted(silent))}, and its docstring does not say so"


ENTRIES = [
    path.name for path in (REPOSITORY / "invad").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
]


@pytest.mark.parametrize("entry", sorted(ENTRIES))
def test_docstrings_agree_with_the_code(entry):
    root = REPOSITORY / "invad" / entry
    files = [root] if root.suffix == ".py" else sorted(root.rglob("*.py"))
    wrong = [
        f"{file.relative_to(REPOSITORY)}:{problem}"
        for file in files
        for problem in problems(ast.parse(file.read_text()), command_line=entry == "cli")
    ]
    assert wrong == []


def test_every_refusal_is_known():
    """A new exception that stands for a mistake of the user joins `REFUSALS`."""
    texts = [file.read_text() for file in (REPOSITORY / "invad").rglob("*.py")]
    classes = {
        name for text in texts for name in re.findall(r"^class (\w+)\((?:\w+, )*(?:InputError)\)", text, re.MULTILINE)
    }
    assert classes | {"InputError"} == REFUSALS


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (
            "def f(a):\n    '''Do.\n\n    Args:\n        b: Of old.\n    '''",
            "1: f: Args: has ['b'], but it takes ['a']",
        ),
        (
            "def f():\n    '''Do.'''\n    raise InputError('x')",
            "1: f: raises InputError, and its docstring does not say so",
        ),
        (
            "@dataclass\nclass C:\n    '''It.\n\n    Attributes:\n        b: Old.\n    '''\n    a: int",
            "2: C: Attributes: has ['b'], which are none",
        ),
    ],
    ids=["argument", "refusal", "attribute"],
)
def test_what_is_wrong_is_found(code, problem):
    assert list(problems(ast.parse(code), command_line=False)) == [problem]
