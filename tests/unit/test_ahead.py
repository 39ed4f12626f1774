"""Threads that read ahead of a device and write behind it: few items, in their order, errors in their turn, and no thread in the end."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from toys import CPU

from invad.features import ahead as ahead_module
from invad.features.ahead import BATCHES, ahead, computed_ahead, landed, leaves_cores, read_ahead

SECONDS = 20  # within which a thread does what it will do anyway


@pytest.fixture(params=[True, False], ids=["threads", "none"])
def threads(request, monkeypatch) -> bool:
    """Whether there are cores for threads."""
    monkeypatch.setattr(ahead_module, "leaves_cores", lambda device: request.param)
    return request.param


def test_work_is_ahead_by_so_much_and_results_are_in_order():
    taken, gates = [], [threading.Event() for _ in range(20)]

    def numbers():
        for number in range(20):
            taken.append(number)
            yield number

    def wait(number: int) -> int:
        assert gates[number].wait(SECONDS)
        return number

    with ThreadPoolExecutor(4) as pool:
        results = ahead(pool, wait, numbers(), 4)
        for number in range(20):
            for gate in gates[number + 1 : number + 4] + gates[number : number + 1]:  # later ones are done earlier
                gate.set()
            assert next(results) == number
            assert len(taken) == min(number + 5, 20)  # also where results are there before they are asked for
        assert next(results, None) is None


def test_others_work_while_a_gpu_computes_or_torch_leaves_a_core(monkeypatch):
    monkeypatch.setattr(ahead_module, "cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert [leaves_cores(torch.device(name)) for name in ("cpu", "cuda")] == [False, True]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert leaves_cores(CPU)


def test_reading_ahead_keeps_the_order_and_an_error_comes_in_its_turn(threads):
    asked = []

    def read(item: int) -> int:
        asked.append(item)
        return 10 // item

    with read_ahead(read, [5, 2, 0, 1], CPU) as results:
        assert next(results) == 2
        assert next(results) == 5
        with pytest.raises(ZeroDivisionError):
            next(results)
    assert asked[:3] == [5, 2, 0]
    with read_ahead(read, [], CPU) as results:
        assert list(results) == []


class Loop:
    """A reader, a device and a writer of numbered batches, each of which notes what it has begun."""

    def __init__(self, batches: int) -> None:
        self.batches = range(batches)
        self.read, self.computed = ([threading.Event() for _ in self.batches] for _ in range(2))
        self.closed, self.most_read, self.most_computed = False, 0, 0

    def begun(self, events: list[threading.Event]) -> int:
        return sum(event.is_set() for event in events)

    def _reading(self, number: int) -> int:
        self.read[number].set()
        return number

    def device(self, at: threading.Event | None = None) -> Iterator[int]:
        try:
            with read_ahead(self._reading, self.batches, CPU) as batches:
                for number in batches:
                    self.computed[number].set()
                    if at is not None:
                        assert at.wait(SECONDS)
                    self.most_read = max(self.most_read, self.begun(self.read) - number - 1)
                    yield number
        finally:
            self.closed = True


def test_a_batch_is_read_and_another_computed_while_one_is_written_and_no_more_than_that(monkeypatch):
    monkeypatch.setattr(ahead_module, "leaves_cores", lambda device: True)
    loop, written = Loop(12), []
    with computed_ahead(loop.device(), CPU) as computed:
        for number in computed:
            # While this is being written, and nobody asks for the next one:
            for events, most in ((loop.computed, BATCHES), (loop.read, 2 * BATCHES)):
                assert all(event.wait(SECONDS) for event in events[number : number + most + 1])
                assert loop.begun(events) == min(number + most + 1, 12)
            written.append(number)
    assert written == list(range(12))
    assert loop.most_read == BATCHES


def test_the_next_batch_is_read_while_the_device_holds_one(monkeypatch):
    monkeypatch.setattr(ahead_module, "leaves_cores", lambda device: True)
    loop, gate = Loop(4), threading.Event()
    with computed_ahead(loop.device(gate), CPU) as computed, ThreadPoolExecutor(1) as writer:
        first = writer.submit(next, computed)
        assert all(event.wait(SECONDS) for event in loop.read[: BATCHES + 1])
        assert (loop.begun(loop.computed), first.done()) == (1, False)
        gate.set()
        assert first.result() == 0


def test_without_cores_for_threads_one_thing_is_done_after_the_other(monkeypatch):
    monkeypatch.setattr(ahead_module, "leaves_cores", lambda device: False)
    loop, threads = Loop(3), threading.active_count()
    with computed_ahead(loop.device(), CPU) as computed:
        for number in computed:
            assert (loop.begun(loop.read), loop.begun(loop.computed)) == (number + 1, number + 1)
            assert threading.active_count() == threads


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_end_in_the_middle_leaves_no_thread_and_computes_nothing_more(threads, error):
    before, loop = threading.active_count(), Loop(50)
    with pytest.raises(error) as kept, computed_ahead(loop.device(), CPU) as computed:  # its frames keep what they hold
        assert next(computed) == 0
        raise error
    assert kept.value.__traceback__ is not None
    assert threading.active_count() == before
    assert loop.closed
    assert loop.begun(loop.computed) <= 1 + BATCHES


def test_an_error_of_the_device_comes_behind_what_it_has_computed(threads):
    before, seen = threading.active_count(), []

    def device():
        yield from (0, 1)
        raise ValueError("the third")

    with pytest.raises(ValueError, match="the third"), computed_ahead(device(), CPU) as computed:
        for number in computed:
            seen.append(number)
    assert seen == [0, 1]
    assert threading.active_count() == before


def test_what_cannot_be_closed_is_given_as_well(threads):
    with computed_ahead([3, 1, 2], CPU) as computed:
        assert list(computed) == [3, 1, 2]


def test_a_gpu_has_the_next_batch_before_the_copies_of_one_are_waited_for(monkeypatch):
    log = []

    def record_event():
        number = sum(entry[0] == "computed" for entry in log) - 1
        return SimpleNamespace(synchronize=lambda: log.append(("waited", number)))

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(record_event=record_event))

    def batches():
        for number in range(3):
            log.append(("computed", number))
            yield torch.tensor(number), torch.tensor(10 * number)

    results = [[int(each) for each in tensors] for tensors in landed(batches(), torch.device("cuda"))]
    assert results == [[0, 0], [1, 10], [2, 20]]
    order = [("computed", 0), ("computed", 1), ("waited", 0), ("computed", 2), ("waited", 1), ("waited", 2)]
    assert log == order
    log.clear()
    for tensors in landed(batches(), CPU):
        assert log[-1] == ("computed", int(tensors[0]))
