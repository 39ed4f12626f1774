"""What large tensors leave in memory is there for the next ones, once a network has been placed on the CPU."""

import ctypes
import subprocess
import sys

import pytest

# How many pages the system has to give for a tensor of 64 MiB, before and after a network was placed.
FAULTS = """
import resource
import statistics
import torch
from invad.config import ComputeConfig
from invad.devices import place

def pages() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(min(pages() for _ in range(9)))
place(torch.nn.Conv2d(1, 1, 1), torch.device("cpu"), ComputeConfig())
for _ in range(20):  # the first few lie behind one another, until a gap between small blocks is large enough
    pages()
print(statistics.median(pages() for _ in range(9)))
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="only glibc gives memory back, and can be told not to"
)
def test_a_large_tensor_takes_the_memory_of_the_one_before():
    run = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    before, after = map(int, run.stdout.split())
    assert after < 10 < before
