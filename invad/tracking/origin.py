"""What a run was started with: settings, code, data, packages and hardware, from which it can be built again."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from importlib.metadata import distributions, version
from pathlib import Path

from ruamel.yaml import YAML

from invad.config import BenchmarkConfig
from invad.data.split_table import Split
from invad.files import atomic_path, write_json
from invad.tracking.store import without_password
from invad.workspace import CONFIG_FILE, Workspace

PATCH_BYTES = 1_000_000  # a larger one is not kept
# What the pipeline itself writes into the working tree: no change of the code. And the keys of remotes.
_CODE = ("--", ".", ":(exclude)dvc.lock", ":(exclude)reports", ":(exclude).dvc/config")


def run_name(benchmark: BenchmarkConfig) -> str:
    """Return what a run is called in MLflow: benchmark, method, encoder, epochs where the method counts them, and seed."""
    settings = flatten_settings(benchmark)
    epochs = settings.get("train.epochs") if benchmark.train.length.endswith("epochs") else None
    length = [] if epochs is None else [f"{epochs} epoch{'' if epochs == '1' else 's'}"]
    method = f"{benchmark.name} {settings['train.model']} {settings['features.encoder']}"
    return ", ".join([method, *length, f"seed {settings['train.seed']}"])


def flatten_settings(benchmark: BenchmarkConfig) -> dict[str, str]:
    """Return all settings by dotted name."""
    flat: dict[str, str] = {}
    for name, value in asdict(benchmark).items():
        section = {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
        flat |= {key: str(one) for key, one in section.items()}
    return flat


def run_tags(benchmark: BenchmarkConfig, workspace: Workspace) -> dict[str, str]:
    """Return the tags of a new run; what is not known here has none."""
    tags = {
        "invad.benchmark": benchmark.name,
        "invad.command": f"dvc repro evaluate@{benchmark.name}",
        "dvc.split": dvc_md5(workspace, f"splits@{benchmark.name}"),
        "dvc.features": dvc_md5(workspace, f"features@{benchmark.name}"),
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
    }
    return {name: value for name, value in tags.items() if value} | environment_tags(workspace)


def environment_tags(workspace: Workspace) -> dict[str, str]:
    """Return the tags of code, packages and hardware as they are now; what is not known here has none."""
    cpuinfo, torch = Path("/proc/cpuinfo"), sys.modules.get("torch")  # nobody waits for torch to tell its GPUs
    cpus = re.findall(r"model name\s*:\s*(.+)", cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else "")
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if torch else []
    tags = {
        **_code_tags(workspace),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "hardware.cpu": next(iter(cpus), platform.processor()),
        "hardware.memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB",
        "hardware.gpu": ", ".join(gpus),
        "package.invad": version("invad"),  # all packages are an artifact
        "package.torch": version("torch"),
    }
    return {name: value for name, value in tags.items() if value}


def data_sets(split: Split, benchmark: BenchmarkConfig, source: str) -> list[dict[str, str]]:
    """Return the images of each phase as MLflow's data sets; source: `embedded`, `path` or `official`."""
    from invad.features.source import split_sha256  # with torch

    found = []
    for phase in ("train", "calibration", "labelled", "test"):
        if rows := split.phase(phase):
            images = Counter(row.class_name for row in rows)
            profile = {"images": len(rows), "anomalous": sum(row.label for row in rows), "images_per_class": images}
            data_set = {
                "name": f"{benchmark.name}/{phase}",
                "digest": split_sha256(rows, split.reading)[:32],  # MLflow takes 36 characters
                "source_type": source,
                "source": json.dumps({"dataset": benchmark.dataset, "source": source}),
                "profile": json.dumps(profile, sort_keys=True, ensure_ascii=False),
            }
            found.append(data_set)
    return found


def write_origin(benchmark: BenchmarkConfig, workspace: Workspace, folder: Path) -> None:
    """Write what a run was started with to `folder`, for its artifacts: settings, packages, and changes of the code."""
    changes = _git(workspace, "diff", "--binary", "HEAD", *_CODE) or b""
    packages, settings = sorted({f"{item.name}=={item.version}\n" for item in distributions()}), "params.yaml"
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        write_json(temporary / CONFIG_FILE, asdict(benchmark))
        (temporary / "packages.txt").write_text("".join(packages), encoding="utf-8")
        if (workspace.root / settings).exists():
            shutil.copyfile(workspace.root / settings, temporary / settings)
        if 0 < len(changes) <= PATCH_BYTES:
            (temporary / "code.patch").write_bytes(changes)


def dvc_md5(workspace: Workspace, stage: str, name: str = "") -> str:
    """Return the hash that `dvc.lock`, which DVC writes at a stage's end, has of the output called `name`, or else of the first."""
    path = workspace.root / "dvc.lock"
    lock = (YAML(typ="safe").load(path) if path.exists() else None) or {}
    outs = lock.get("stages", {}).get(stage, {}).get("outs", [])
    named = [out for out in outs if Path(out["path"]).name == name] or outs
    return named[0]["md5"] if named else ""


def _code_tags(workspace: Workspace) -> dict[str, str]:
    """Return commit, remote and whether the tree has changes; nothing is claimed where git is missing or refuses."""
    commit = _git(workspace, "rev-parse", "HEAD")
    changes = _git(workspace, "status", "--porcelain", "--untracked-files=no", *_CODE)
    if commit is None or changes is None:
        return {}
    remote = (_git(workspace, "remote", "get-url", "origin") or b"").decode().strip()
    dirty = str(bool(changes)).lower()
    return {"git.commit": commit.decode().strip(), "git.remote": without_password(remote), "git.dirty": dirty}


def _git(workspace: Workspace, *arguments: str) -> bytes | None:
    """Return what git says, None where it is missing or refuses."""
    try:
        return subprocess.run(["git", *arguments], cwd=workspace.root, capture_output=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
