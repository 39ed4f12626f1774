"""All commands with their options as one page: `python -m invad.cli.reference docs/cli.md` writes it.

typer's own `utils docs` cuts off what commands do in its list, and writes examples as running text, where `**` is bold, with HTML entities.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from invad.cli import app
from invad.cli.examples import EXAMPLES
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
    rows = [_row(command, context.command_path) for command, context in commands()]
    return "\n".join([_START + "\n".join(rows), *(_section(*each) for each in commands())]) + "\n"


def commands() -> list[tuple[TyperCommand, typer.Context]]:
    """Return every command with a context that knows its whole name, such as `invad-pipe data check`."""
    root = get_command(app)
    if not isinstance(root, TyperGroup):
        raise TypeError(f"{_PROGRAM}: expected a group of commands, got {type(root).__name__}")
    return list(_commands(root, typer.Context(root, info_name=_PROGRAM)))


def _commands(group: TyperGroup, context: typer.Context) -> Iterator[tuple[TyperCommand, typer.Context]]:
    """Yield every command, also those of groups in the group."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, TyperGroup):
            yield from _commands(command, typer.Context(command, info_name=name, parent=context))
        elif isinstance(command, TyperCommand) and not command.hidden:
            yield command, typer.Context(command, info_name=name, parent=context)


def _row(command: TyperCommand, path: str) -> str:
    name = path.removeprefix(f"{_PROGRAM} ")
    does = _text(command.get_short_help_str(limit=1000)).replace("|", r"\|")  # the first sentence
    return f"| [{name}](#{path.replace(' ', '-')}) | {does} |"


def _section(command: TyperCommand, context: typer.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = ["", f"## {context.command_path}", "", _text(command.help or ""), "", "```", usage, "```", ""]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[0] != "--help":
            lines.append(f"- `{record[0]}`: {_text(' '.join(record[1].split()))}")
    if examples := EXAMPLES.get(context.command_path.removeprefix(f"{_PROGRAM} ")):
        lines += ["", "```bash", *examples, "```"]
    return "\n".join(lines)


def _text(text: str) -> str:
    """Return a docstring's text so that Markdown shows it as it is."""
    return text.replace("<", "&lt;").replace("*", r"\*")


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), reference())
