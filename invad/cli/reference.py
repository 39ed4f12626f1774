"""All commands with their options as one page: `python -m invad.cli.reference docs/cli.md` writes it.

typer's own `utils docs` cuts off what commands do in its list, and writes examples as running text, where `**` is bold, with HTML entities.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from invad.cli import app
from invad.cli.options import EXAMPLES
from invad.files import write_text

_PROGRAM = "invad-pipe"
_START = f"""\
# Commands

`make docs` writes this page from the code; `{_PROGRAM} COMMAND --help` says the same. `python -m invad` is `{_PROGRAM}`, and
`{_PROGRAM} --install-completion` completes commands and options in your shell. Exit codes: 0, all is well; 1, the command has done
its work and found errors or failures in it; 2, a mistake in what it was given, in one line.

`ablate`, `report`, `runs`, `tune` and `ui` need the extra `pipeline` (`pip install 'invad[pipeline]'`), `export` the extra `export` and
`serve` the extra `serve`.

| command | does |
|---|---|
"""


def reference() -> str:
    """Return the page as Markdown, the same in every terminal."""
    rows, sections = [], []
    for command, context in commands():
        name = context.command_path.removeprefix(f"{_PROGRAM} ")
        does = _text(command.get_short_help_str(limit=1000)).replace("|", r"\|")  # the first sentence
        rows.append(f"| [{name}](#{context.command_path.replace(' ', '-')}) | {does} |")
        sections += _section(command, context, EXAMPLES.get(name, ()))
    return "\n".join([_START + "\n".join(rows), *sections]) + "\n"


def commands() -> list[tuple[TyperCommand, typer.Context]]:
    """Return every command, those of groups too, with a context that knows its whole name, such as `invad-pipe data check`."""
    root = get_command(app)
    waiting: list[tuple[object, typer.Context]] = [(root, typer.Context(root, info_name=_PROGRAM))]
    found = []
    while waiting:
        command, context = waiting.pop(0)
        if isinstance(command, TyperGroup):
            children = [(command.get_command(context, name), name) for name in command.list_commands(context)]
            waiting[:0] = [
                (each, typer.Context(each, info_name=name, parent=context)) for each, name in children if each
            ]
        elif isinstance(command, TyperCommand) and not command.hidden:
            found.append((command, context))
    return found


def _section(command: TyperCommand, context: typer.Context, examples: Iterable[str]) -> list[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = ["", f"## {context.command_path}", "", _text(command.help or ""), "", "```", usage, "```", ""]
    records = (parameter.get_help_record(context) for parameter in command.get_params(context))
    lines += [
        f"- `{name}`: {_text(' '.join(text.split()))}" for name, text in filter(None, records) if name != "--help"
    ]
    return [*lines, *(["", "```bash", *examples, "```"] if examples else ())]


def _text(text: str) -> str:
    """Return a docstring's text so that Markdown shows it as it is."""
    return text.replace("<", "&lt;").replace("*", r"\*")


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), reference())
