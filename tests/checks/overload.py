"""The service gets several times what it can take, from clients of which some are slow, silent or leave.

python tests/checks/overload.py --trials 100 --seed 0

A trial is one such crowd: an accepted image gets its own score, any other a refusal (429 for a full queue; 503 where there is no time or
no connection), `/health` answers meanwhile, and memory stays where it was. In the end SIGTERM ends the service in the midst of a crowd.
"""

import io
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import requests
from check_frame import Trial, main
from pictures import encoded, picture
from PIL import Image
from prediction_toys import toy_model_folder

import invad

QUEUE, TIMEOUT = 8, 10  # of the service
CROWD, IDLE = 40, 80  # clients at once: with a picture, and those that disturb
SLOW = 20  # of the latter, those whose body does not come; they hold no place in the queue
PICTURES = [encoded(picture(seed, 400, 300)) for seed in range(0, 150, 20)]
MEMORY = 500_000_000  # more than after the first images
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 5000\r\n\r\n"


class Crowd:
    """Clients of the service at `port`; `scores`: of each picture, as the Python interface gives it."""

    def __init__(self, port: int, scores: list[float]) -> None:
        self.port, self.url, self._scores = port, f"http://127.0.0.1:{port}", scores

    def ask(self, number: int) -> str:
        """Send a picture; return the status, or `closed` for a connection that the service has closed."""
        body, headers = PICTURES[number], {"Content-Type": "image/png"}
        try:
            answer = requests.post(f"{self.url}/predict", data=body, headers=headers, timeout=60)
        except requests.ConnectionError:
            return "closed"
        if answer.status_code == 200:
            score = answer.json()["score"]
            assert abs(score - self._scores[number]) < 1e-4, f"picture {number} got {score}, not {self._scores[number]}"
        else:
            assert answer.status_code in (429, 503), f"{answer.status_code}: {answer.text}"
            assert list(answer.json()) == ["error"], answer.text
        return str(answer.status_code)

    def disturb(self, way: int, ended: threading.Event) -> None:
        """Open a connection and send a body that never comes, nothing, half a head or garbage, or leave in the midst of a body."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall((HEAD + b"x", b"", HEAD[:50], b"\x16\x03\x01" * 99, HEAD + b"x" * 4000)[way])
            if way < 4:
                ended.wait(30)

    def come(self, rng: random.Random) -> Counter[str]:
        """Everybody at once; return how often each status was the answer."""
        ended = threading.Event()
        with ThreadPoolExecutor(CROWD) as askers, ThreadPoolExecutor(IDLE) as others:
            for number in range(IDLE):
                others.submit(self.disturb, 0 if number < SLOW else rng.randrange(1, 5), ended)
            answers = [askers.submit(self.ask, rng.randrange(len(PICTURES))) for _ in range(CROWD)]
            try:
                for _ in range(3):
                    assert self.is_healthy(), "/health does not answer"
                return Counter(answer.result() for answer in answers)
            finally:
                ended.set()

    def is_healthy(self) -> bool:
        """A probe, as others do, comes again when its connection found no place."""
        for _ in range(5):
            with suppress(requests.ConnectionError):
                return requests.get(f"{self.url}/health", timeout=20).json()["status"] == "ok"
        return False


@contextmanager
def check(folder: Path) -> Iterator[Trial]:
    """Start the service, send crowds to it, and end it."""
    model, log = toy_model_folder(folder / "toys"), folder / "log"
    predictor = invad.load(model, device="cpu")
    scores = [predictor.predict(Image.open(io.BytesIO(data)))[0].score for data in PICTURES]
    options = f"--port 0 --queue {QUEUE} --timeout {TIMEOUT} --device cpu --runtime torch"
    command = [sys.executable, "-m", "invad", "serve", str(model), *options.split()]
    with log.open("w") as file, subprocess.Popen(command, stderr=file) as service:
        try:
            crowd = Crowd(port_in(log), scores)
            for number in range(len(PICTURES)):
                assert crowd.ask(number) == "200"
            memory = psutil.Process(service.pid).memory_info().rss

            def trial(seed: int) -> str:
                statuses = crowd.come(random.Random(seed))
                assert statuses["200"], f"nobody was served: {dict(statuses)}"
                assert crowd.ask(0) == "200", "the crowd has left, and still there is no answer"
                more = psutil.Process(service.pid).memory_info().rss - memory
                assert more < MEMORY, f"{more / 1e6:.0f} MB of memory more than before"
                return "with refusals" if statuses.keys() - {"200"} else "without"

            yield trial
            with ThreadPoolExecutor(CROWD) as askers:
                answers = [askers.submit(crowd.ask, number % len(PICTURES)) for number in range(CROWD)]
                service.send_signal(signal.SIGTERM)
                assert service.wait(60) == 0, f"SIGTERM ended it with {service.returncode}"
                assert {answer.result() for answer in answers} <= {"200", "429", "503", "closed"}
            said = log.read_text()
            assert "Traceback" not in said and len(said) < 20_000, said[-2000:]
        finally:
            service.kill()


def port_in(log: Path) -> int:
    """Wait until the service says where it is."""
    for _ in range(1200):
        if match := re.search(r"127\.0\.0\.1:(\d+), cpu", log.read_text()):
            return int(match[1])
        time.sleep(0.1)
    raise AssertionError(f"the service has not started: {log.read_text()[-2000:]}")


if __name__ == "__main__":
    main(__file__, check)
