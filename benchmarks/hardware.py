"""What a benchmark ran on and how much memory it took; nothing that names the machine itself."""

import os
import platform
import resource
import sys
from pathlib import Path
from typing import Any

import psutil
import torch

# Of the processor's instructions, those that decide how fast reduced precision is.
HALF_PRECISION = ("avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16")


def hardware(device: torch.device, threads: int) -> dict[str, Any]:
    """Describe processor, memory, GPU (None when `device` is the CPU), operating system and versions, for JSON."""
    facts = _cpu_facts()
    gpu = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return {
        "cpu": facts.get("model name") or platform.processor() or platform.machine(),
        "cpu_cores": os.cpu_count(),
        "cpu_half_precision": [name for name in HALF_PRECISION if name in facts.get("flags", "").split()],
        "threads": threads,
        "ram_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": gpu and gpu.name,
        "gpu_memory_gib": gpu and round(gpu.total_memory / 2**30, 1),
        "os": _operating_system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def hardware_line(facts: dict[str, Any]) -> str:
    """Return what `hardware` says in one line for people."""
    gpu = f"{facts['gpu']} with {facts['gpu_memory_gib']} GiB" if facts["gpu"] else "no GPU used"
    half = f" ({', '.join(facts['cpu_half_precision'])})" if facts["cpu_half_precision"] else ""
    return (
        f"{facts['cpu']}{half}, {facts['cpu_cores']} cores, {facts['threads']} threads used, {facts['ram_gib']} GiB memory, {gpu}; "
        f"{facts['os']}, Python {facts['python']}, torch {facts['torch']}"
    )


def resident_bytes() -> int:
    """Return what this process holds in memory now."""
    return psutil.Process().memory_info().rss


def peak_bytes() -> int:
    """Return the most that this process has held in memory at once."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    # ru_maxrss would begin with what the parent held when it started this process.
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _cpu_facts() -> dict[str, str]:
    """The first processor's entry in Linux's list; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return f"{platform.system()} {platform.release()}"
