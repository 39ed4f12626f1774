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
def use(name: NameArgument, params: ParamsOption = Path("params.yaml")) -> None:
    """Write a profile to params.yaml; the paths of your data and your own data sets stay, and the old file as params.yaml.bak."""
    from invad.config.profiles import use_profile

    kept, backup = use_profile(name, params)
    print(f"{params} is now the profile {name}")
    for key in kept:
        print(f"kept   {key}")
    if backup is not None:
        print(f"before {backup}")
