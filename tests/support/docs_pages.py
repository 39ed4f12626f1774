"""The pages for people: their blocks of code, the commands in them, and whether a command is one that exists."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from conftest import REPOSITORY
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from invad.cli import app
from invad.studies.modules import MODULES

GENERATED = "docs/cli.md"
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md"))]
WRITTEN = [page for page in PAGES if page != GENERATED]
PROGRAMS = ("invad-pipe", "dvc", "make", "pip", "python")  # whose commands are checked in running text too
YOURS = {"shop", "NAME"}  # names of the reader's benchmarks
SHELL = {"|", ">", ">>", "<", "&", "(", ")"}


@dataclass(frozen=True)
class Block:
    """A fenced block: `page:line` of its fence, its language, its text."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    """All fenced blocks of all pages that people write; only those of `languages` where any are given."""
    found = []
    for page in WRITTEN:
        text = (REPOSITORY / page).read_text()
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(page, line, match[1], match[2]))
    return [block for block in found if not languages or block.language in languages]


def shell_commands(text: str) -> Iterator[list[str]]:
    """The words of each command of a block; one with pipes or redirections is kept in one piece."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in (";", "&&"):
                words.append(word)
            elif words:
                yield words
                words = []


def spans(page: str) -> Iterator[tuple[str, list[str]]]:
    """Place and words of each command between single backticks."""
    text = re.sub(
        r"^```.*?^```$", lambda match: "\n" * match[0].count("\n"), (REPOSITORY / page).read_text(), flags=re.M | re.S
    )
    for match in re.finditer(r"`([^`]+)`", text):
        words = shlex.split(match[1]) if match[1].startswith(tuple(f"{name} " for name in PROGRAMS)) else []
        if words:
            yield f"{page}:{text.count(chr(10), 0, match.start()) + 1}", words


def problem(words: list[str]) -> str | None:
    """Why there is no such command, as far as that can be known without running it."""
    check = {"invad-pipe": _pipe, "make": _make, "dvc": _dvc, "pip": _pip, "python": _python}.get(words[0])
    return check(words[1:]) if check else None


def _commands(group: TyperGroup, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], TyperCommand]]:
    """Every command of a group and of the groups in it, by its words."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _commands(command, (*words, name))
        else:
            yield (*words, name), command


def _pipe(words: list[str]) -> str | None:
    known = dict(_commands(get_command(app)))
    path = next((tuple(words[:n]) for n in (2, 1) if tuple(words[:n]) in known), None)
    if path is None:
        return (
            None
            if words[0] in ("--version", "--help", "COMMAND")
            else f"invad-pipe has no command {' '.join(words[:2])}"
        )
    options = {name for parameter in known[path].params for name in parameter.opts} | {"--help"}
    wrong = [word for word in words if word.startswith("--") and word.partition("=")[0] not in options]
    return f"invad-pipe {' '.join(path)} has no option {wrong[0]}" if wrong else None


def _make(words: list[str]) -> str | None:
    targets = re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    wrong = [word for word in words if "=" not in word and word not in targets]
    return f"the Makefile has no target {wrong[0]}" if wrong else None


def _dvc(words: list[str]) -> str | None:
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    for word in words:
        keys = word.partition("=")[0].split(".")
        if words[:2] == ["exp", "run"] and "=" in word and keys[2] not in params[keys[0]][keys[1]]:
            return f"params.yaml has no {'.'.join(keys)}"
    if words[0] != "repro":
        return None
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    names = {*params["download"], *params["benchmarks"], *MODULES, *YOURS, ""}
    targets = [word.partition("@") for word in words[1:] if not word.startswith("-")]
    wrong = ["".join(target) for target in targets if target[0] not in stages or target[2] not in names]
    return f"dvc.yaml has no stage {wrong[0]}" if wrong else None


def _pip(words: list[str]) -> str | None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = [extra.strip() for word in words for group in re.findall(r"\[(.*?)\]", word) for extra in group.split(",")]
    wrong = [extra for extra in named if extra not in extras]
    return f"there is no extra {wrong[0]}" if wrong else None


def _python(words: list[str]) -> str | None:
    script = words[0]
    return f"there is no {script}" if script.endswith(".py") and not (REPOSITORY / script).is_file() else None


def links(page: str) -> Iterator[tuple[str, str]]:
    """Path and anchor of each link to a file here."""
    text = re.sub(r"^```.*?^```$", "", (REPOSITORY / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"\w+://|mailto:", target):
            path, _, anchor = target.partition("#")
            yield path, anchor


def anchors(page: Path) -> set[str]:
    """What links to the headings of a page end with."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
