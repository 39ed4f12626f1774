"""The frame of the checks that anyone can run longer: arguments, trials by seed, a summary; and children that may be killed."""

import argparse
import os
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from tqdm import tqdm

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "support")]  # a script has its own folder alone
os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker:UserWarning"  # of the semaphores of what was killed

# Imported once, before any child is forked: a child begins within milliseconds.
_PRELOAD = [
    "torch", "timm", "mlflow.store.tracking.sqlalchemy_store", "scipy.ndimage", "pyarrow.parquet", "safetensors.torch",
    "fastapi.testclient", "invad.cluster.train", "invad.cluster.extract", "invad.data.download", "invad.data.splits",
    "invad.features.extract", "invad.metrics", "invad.pipeline.run_log", "invad.pipeline.stages", "invad.predict.serve.app",
    "invad.scoring.score", "invad.tracking", "invad.data.own.user_table", "invad.training.authors_checkpoint",
]  # fmt: skip

Trial = Callable[[int], str]
"""One trial, by its seed: a word for what came of it; `AssertionError` says what is wrong."""

Check = Callable[[Path], AbstractContextManager[Trial]]
"""What gets ready in an empty folder, and gives the trials."""


def run(check: Check, folder: Path, trials: int, seed: int = 0) -> tuple[Counter[str], dict[int, str]]:
    """Run trials with the seeds from `seed` on; return how often what came of them, and what is wrong by seed."""
    outcomes, wrong, number = Counter(), {}, seed
    try:
        with check(folder) as trial, tqdm(total=trials, unit="trial", leave=False, disable=None) as progress:
            for number in range(seed, seed + trials):
                try:
                    outcomes[trial(number)] += 1
                except AssertionError as error:
                    wrong[number] = str(error) or traceback.format_exc()
                progress.update()
                progress.set_postfix_str(f"{len(wrong)} wrong")
    except AssertionError as error:  # before the first trial, or after the last one
        wrong[number] = str(error) or traceback.format_exc()
    return outcomes, wrong


def main(script: str, check: Check) -> None:
    """Run a check as the command line asks; exit code 1 when something is wrong."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the first trial; the next ones count on")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes, wrong = run(check, Path(folder), options.trials, options.seed)
    name = Path(script).resolve().relative_to(TESTS.parent)
    for seed, what in wrong.items():
        print(f"wrong: {what}\nagain: python {name} --trials 1 --seed {seed}", file=sys.stderr)
    words = ", ".join(f"{number} {word}" for word, number in sorted(outcomes.items()))
    print(f"{name.stem}: {options.trials} trials from seed {options.seed}: {words or 'none well'}; {len(wrong)} wrong")
    sys.exit(bool(wrong))


def child(function: Callable[..., None], *arguments: object, log: Path) -> BaseProcess:
    """Start `function` in a process of its own whose prints, also those of libraries in C, go to `log`."""
    context = get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    process = context.Process(target=_logged, args=(function, log, arguments))
    process.start()
    return process


def _logged(function: Callable[..., None], log: Path, arguments: tuple[object, ...]) -> None:
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    function(*arguments)
