"""Where a run came from: code, data, packages and hardware, as tags, data sets and artifacts from which it can be built again."""

import json
import logging
import os
import platform
import re
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from functools import cache
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import yaml

from invad.config import BenchmarkConfig
from invad.data.split_table import Split
from invad.files import atomic_path
from invad.tracking.store import without_password
from invad.workspace import CONFIG_FILE, WEIGHTS_FILE, Workspace

PATCH_BYTES = 1_000_000  # a larger one is not kept
# What the pipeline itself writes into the working tree: no change of the code.
_OUTPUTS = (":(exclude)dvc.lock", ":(exclude)reports")
_SECRETS = ":(exclude).dvc/config"  # keys of remotes
_BYTES = ("utf-8", "surrogateescape")

logger = logging.getLogger(__name__)


def run_tags(benchmark: BenchmarkConfig, workspace: Workspace) -> dict[str, str]:
    """Return the tags of a new run; what is not known here has none."""
    tags = {
        "invad.benchmark": benchmark.name,
        "invad.command": f"dvc repro evaluate@{benchmark.name}",
        "dvc.split": _dvc_md5(workspace, f"splits@{benchmark.name}"),
        "dvc.features": _dvc_md5(workspace, f"features@{benchmark.name}"),
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
    }
    return {name: value for name, value in tags.items() if value} | environment_tags(workspace)


def environment_tags(workspace: Workspace) -> dict[str, str]:
    """Return the tags of code, packages and hardware as they are now; what is not known here has none."""
    tags = {
        **_code_tags(workspace),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "hardware.cpu": (_models("proc/cpuinfo", r"model name\s*:") or [platform.processor()])[0],
        "hardware.memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB",
        "hardware.gpu": ", ".join(_gpus()),
        "package.invad": version("invad"),  # all packages are an artifact
        "package.torch": version("torch"),
    }
    return {name: value for name, value in tags.items() if value}


def model_tags(benchmark: BenchmarkConfig, workspace: Workspace) -> dict[str, str]:
    """Return the hash by which DVC knows the benchmark's model, which `dvc.lock` has once the training has ended."""
    md5 = _dvc_md5(workspace, f"train@{benchmark.name}", WEIGHTS_FILE)
    return {"dvc.model": md5} if md5 else {}


def data_sets(split: Split, benchmark: BenchmarkConfig, source: str) -> list[dict[str, Any]]:
    """Return the images of each phase as a data set: name, digest, source, counts of images and classes; a phase without any has none.

    source: `embedded`, `path` or `official`.
    """
    from invad.features.source import split_sha256  # with torch

    found = []
    for phase in ("train", "calibration", "test"):
        if not (rows := split.phase(phase)):
            continue
        digest, images = split_sha256(rows, split.reading), Counter(row.class_name for row in rows)
        profile = {
            "images": len(rows),
            "anomalous": sum(row.label for row in rows),
            "classes": len(images),
            "images_per_class": dict(sorted(images.items())),
            "sha256": digest,
        }
        data_set = {
            "name": f"{benchmark.name}/{phase}",
            "digest": digest[:32],  # MLflow takes 36 characters
            "source_type": source,
            "source": json.dumps({"dataset": benchmark.dataset, "source": source}),
            "profile": json.dumps(profile, ensure_ascii=False),
            "context": phase,
        }
        found.append(data_set)
    return found


def write_origin(benchmark: BenchmarkConfig, workspace: Workspace, folder: Path) -> dict[str, str]:
    """Write what a run was started with to `folder`, for its artifacts: settings, packages, changes of the code. Return tags of it."""
    changes = (_git(workspace, "diff", "--binary", "HEAD", "--", ".", *_OUTPUTS, _SECRETS) or "").encode(*_BYTES)
    packages = sorted({f"{item.name}=={item.version}\n" for item in distributions()})
    files = {
        CONFIG_FILE: json.dumps(asdict(benchmark), indent=2, ensure_ascii=False).encode(),
        "packages.txt": "".join(packages).encode(),
    }
    if (settings := workspace.root / "params.yaml").exists():
        files[settings.name] = settings.read_bytes()
    if 0 < len(changes) <= PATCH_BYTES:
        files["code.patch"] = changes
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        for name, content in files.items():
            (temporary / name).write_bytes(content)
    return {"git.patch": f"not kept, {len(changes)} bytes"} if len(changes) > PATCH_BYTES else {}


def _dvc_md5(workspace: Workspace, stage: str, name: str = "") -> str:
    """Return the hash that `dvc.lock`, which DVC writes at a stage's end, has of the output called `name`, or else of the first."""
    path = workspace.root / "dvc.lock"
    lock = (yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None) or {}
    outs = lock.get("stages", {}).get(stage, {}).get("outs", [])
    named = [out for out in outs if Path(out["path"]).name == name] or outs
    return named[0]["md5"] if named else ""


def _code_tags(workspace: Workspace) -> dict[str, str]:
    """Return commit, remote and whether the tree has changes; nothing is claimed, and one warning given, where git does not say."""
    commit = _git(workspace, "rev-parse", "HEAD", warns=True)
    changes = _git(workspace, "status", "--porcelain", "--untracked-files=no", "--", ".", *_OUTPUTS)
    if commit is None or changes is None:
        return {}
    remote = (_git(workspace, "remote", "get-url", "origin") or "").strip()
    dirty = str(bool(changes)).lower()
    return {"git.commit": commit.strip(), "git.remote": without_password(remote), "git.dirty": dirty}


def _git(workspace: Workspace, *arguments: str, warns: bool = False) -> str | None:
    """Return what git says, None where it is missing or refuses."""
    try:
        done = subprocess.run(["git", *arguments], cwd=workspace.root, capture_output=True, check=True)
        return done.stdout.decode(*_BYTES)
    except FileNotFoundError:
        reason = "git is not installed"
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {error.returncode}"]
        reason = lines[0].removeprefix("fatal: ")
    if warns:
        _warn_of_git(workspace.root.absolute(), without_password(reason))
    return None


@cache  # once for a folder
def _warn_of_git(root: Path, reason: str) -> None:
    logger.warning("git says nothing of %s (%s): commit and changes of the code are not recorded", root, reason)


def _gpus() -> list[str]:
    """Return the names of the GPUs: the driver's list, since to ask torch loads CUDA; a container may hide it."""
    torch = sys.modules.get("torch")  # only where it is loaded already
    names = _models("proc/driver/nvidia/gpus/*/information", "Model:")
    if names or torch is None or not torch.cuda.is_available():
        return names
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _models(files: str, key: str) -> list[str]:
    """Return what stands behind a key in the lines of some files."""
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(Path("/").glob(files))]
    return [name.strip() for text in texts for name in re.findall(rf"^{key}\s*(.+)$", text, re.MULTILINE)]
