"""What a person follows while a training runs: a line in the terminal, and a log file with a line for every interval."""

import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from tqdm import tqdm

from invad.training.curve import Step

_LINE_SECONDS = 10.0
_POLL_SECONDS = 2.0  # reading curves and telling MLflow costs the workers time on a small machine


class Progress:
    """Shows steps as they come in, in the terminal and in a log file; used as a context, which closes both."""

    def __init__(
        self,
        label: str,
        log: Path,
        batch_size: int,
        checkpoint_steps: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Show a training, such as `train@mvtec`, that is about to start; each checkpoint gets a line of the log. `clock`: in seconds."""
        self._label, self._batch_size, self._checkpoint_steps, self._clock = label, batch_size, checkpoint_steps, clock
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log.open("a", encoding="utf-8", buffering=1)  # a line is there as soon as it is written
        self._bar = tqdm(desc=f"{label} (starts)", unit="step", mininterval=1)
        self.resumed = 0  # steps of earlier starts
        self._counted: tuple[int, float] | None = None  # a step, and when it was: what the speed is counted from
        self._started = self._line_at = clock()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self._log.close()

    def __call__(self, steps: Sequence[Step], total: int, resumed: int = 0) -> None:
        """Show new steps (at least one) of `total`; the first `resumed` of all were made by an earlier start."""
        self.resumed = resumed
        if self._bar.total is None:
            self._bar.set_description(self._label, refresh=False)
            self._bar.total, self._bar.initial, self._bar.n = total, resumed, resumed
            self._write(f"{self._label}: {f'goes on after step {resumed}' if resumed else 'starts'}, {total} steps")
        steps = [step for step in steps if step.step > resumed]
        if not steps:
            return
        now, last = self._clock(), steps[-1]
        # From the first steps on: what came before, such as the start of Ray, is not counted.
        first, since = self._counted or (resumed, self._started)
        self._counted = self._counted or (last.step, now)
        per_second = (last.step - first) / max(now - since, 1e-9)
        speed = f"{per_second * self._batch_size:.1f} images/s"
        self._bar.set_postfix_str(f"loss={last.loss:.4g}, epoch={last.epoch + 1}, {speed}", refresh=False)
        self._bar.update(len(steps))
        is_due = now - self._line_at >= _LINE_SECONDS
        for step in steps:
            if step.step % self._checkpoint_steps == 0 or step.step == total or (is_due and step is last):
                left = timedelta(seconds=round((total - step.step) / per_second)) if per_second else "?"
                self._write(
                    f"step {step.step}/{total}, epoch {step.epoch + 1}, loss {step.loss:.6g}, "
                    f"learning rate {step.learning_rate:g}, {speed}, {left} left"
                )
                self._line_at = now

    def _write(self, line: str) -> None:
        self._log.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')} {line}\n")


@contextmanager
def meanwhile(tell: Callable[[], None]) -> Generator[None]:
    """Call `tell` before the block, every two seconds in a thread while it runs, and after it."""
    stop = threading.Event()

    def follow() -> None:
        while not stop.wait(_POLL_SECONDS):
            tell()

    tell()
    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        tell()
