"""`invad-pipe clean`: what interrupted runs, studies and stages have left."""

from datetime import timedelta
from typing import Annotated

import typer

_NOTES = {"old": "no start goes on from it", "useful": "a start may go on from it", "running": "in use"}


def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Remove what is of no use.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="With --yes: also what a start could go on from.")] = False,
) -> None:
    """Show, and with --yes remove, what killed stages were writing (.NAME.PID.tmp).

    With --all also checkpoints and Ray's files of trainings, studies with their features,
    and unfinished extractions.
    """
    from invad.pipeline.leftovers import find_leftovers, remove_leftovers
    from invad.workspace import Workspace

    leftovers = find_leftovers(Workspace())
    for leftover in leftovers:
        age = timedelta(seconds=round(leftover.age))
        note = _NOTES[leftover.state]
        print(f"{leftover.path}  {leftover.size / 1e6:.1f} MB, {age} old: {leftover.what}; {note}")
    if not leftovers:
        print("nothing is left of earlier runs")
    elif not yes:
        print("nothing was removed; --yes removes what no start goes on from, --yes --all all that is not in use")
    else:
        removed = remove_leftovers(leftovers, everything=everything)
        kept = len(leftovers) - len(removed)
        print(f"{len(removed)} removed ({sum(each.size for each in removed) / 1e6:.1f} MB), {kept} kept")
