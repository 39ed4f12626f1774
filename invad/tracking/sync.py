"""Sending later what could not be sent at once."""

from invad.errors import InputError
from invad.tracking.outbox import Journal, all_journals
from invad.tracking.send import send_journal
from invad.tracking.store import answering, connect, tracking_uri, with_password
from invad.workspace import Workspace


def pending(workspace: Workspace) -> int:
    """Return how many runs MLflow does not have, or not all of."""
    return sum(journal.is_pending() for journal in all_journals(workspace))


def sync(workspace: Workspace) -> list[str]:
    """Send all that is kept of all runs, and return a line for each run.

    Raises:
        InputError: A server does not answer. What belongs to others was sent, and nothing is lost.
    """
    by_uri: dict[str, list[Journal]] = {tracking_uri(workspace): []}  # which has to answer even when nothing waits
    for journal in all_journals(workspace):
        if journal.is_pending():
            by_uri.setdefault(with_password(journal.state["uri"], workspace), []).append(journal)
    lines, failures = [], []
    for uri, journals in by_uri.items():
        try:
            with answering(uri):
                client = connect(uri, workspace)
                client.search_experiments(max_results=1)
                lines += [_line(journal, len(send_journal(journal, client, workspace))) for journal in journals]
        except InputError as error:
            waiting = sum(journal.is_pending() for journal in journals)
            failures.append(f"{error} ({waiting} {'run' if waiting == 1 else 'runs'} kept)" if waiting else str(error))
    if failures:
        raise InputError("; ".join(failures))
    return lines


def _line(journal: Journal, refused: int) -> str:
    state = journal.state
    rest = f", {refused} refused, kept in {journal.folder / 'refused.jsonl'}" if refused else ""
    return f"{state['name']}: run {state['mlflow_id']} sent to experiment {state['experiment']}{rest}"
