"""`invad-pipe profile`: ready-made params.yaml files."""

from pathlib import Path
from typing import Annotated

import typer

from invad.cli.options import ParamsOption

profile = typer.Typer(no_args_is_help=True, help="Ready-made settings: quick, paper, paper-lite.")

NameArgument = Annotated[str, typer.Argument(help="As `profile list` shows it.")]


@profile.command("list")
def list_() -> None:
    """List the profiles."""
    from invad.config.profiles import list_profiles

    for name, description in list_profiles():
        print(f"{name:<12} {description}")


@profile.command()
def show(name: NameArgument) -> None:
    """Print a profile."""
    from invad.config.profiles import profile_text

    print(profile_text(name), end="")


@profile.command()
def use(
    name: NameArgument,
    force: Annotated[
        bool, typer.Option("--force", help="Replace your edits; the old file is kept beside it as params.yaml.bak.")
    ] = False,
    params: ParamsOption = Path("params.yaml"),
) -> None:
    """Write a profile to params.yaml; the paths of your data and your own data sets stay."""
    from invad.config.profiles import use_profile

    report = use_profile(name, params, force=force)
    if not report.changed:
        print(f"{params} is the profile {name} already; nothing changed")
        return
    print(f"{params} is now the profile {name}")
    for key in report.kept:
        print(f"kept   {key}")
    if report.backup is not None:
        print(f"before {report.backup}")
