"""Where a run came from: code, data, packages and hardware, as tags and artifacts from which it can be built again."""

import json
import logging
import os
import platform
import re
import subprocess
import sys
from dataclasses import asdict
from functools import cache
from importlib.metadata import distributions, version
from pathlib import Path

import yaml

from invad.config import BenchmarkConfig
from invad.files import atomic_path
from invad.tracking.store import without_password
from invad.workspace import CONFIG_FILE, WEIGHTS_FILE, Workspace

PACKAGES = (
    "dvc",
    "invad",
    "mlflow",
    "numpy",
    "pyarrow",
    "ray",
    "timm",
    "torch",
    "torchvision",
)  # as tags; all are an artifact
PATCH_BYTES = 1_000_000  # a larger one is not kept
# What the pipeline itself writes into the working tree: no change of the code.
_OUTPUTS = (":(exclude)dvc.lock", ":(exclude)reports")
_SECRETS = ":(exclude).dvc/config"  # keys of remotes

logger = logging.getLogger(__name__)


def run_tags(benchmark: BenchmarkConfig, workspace: Workspace) -> dict[str, str]:
    """Return the tags of a new run; what is not known here has none."""
    tags = {
        "invad.benchmark": benchmark.name,
        "invad.command": f"dvc repro evaluate@{benchmark.name}",
        "dvc.split": dvc_md5(workspace, f"splits@{benchmark.name}"),
        "dvc.features": dvc_md5(workspace, f"features@{benchmark.name}"),
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
        **environment_tags(workspace),
    }
    return {name: value for name, value in tags.items() if value}


def environment_tags(workspace: Workspace) -> dict[str, str]:
    """Return the tags of code, packages and hardware as they are now; what is not known here has none."""
    tags = {
        **_code_tags(workspace),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "hardware.cpu": _cpu(),
        "hardware.memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB",
        "hardware.gpu": ", ".join(_gpus()),
        **{f"package.{name}": version(name) for name in PACKAGES},
    }
    return {name: value for name, value in tags.items() if value}


def model_tags(benchmark: BenchmarkConfig, workspace: Workspace) -> dict[str, str]:
    """Return the hash by which DVC knows the benchmark's model, which `dvc.lock` has once the training has ended."""
    md5 = dvc_md5(workspace, f"train@{benchmark.name}", (workspace.model(benchmark.name) / WEIGHTS_FILE).name)
    return {"dvc.model": md5} if md5 else {}


def write_origin(benchmark: BenchmarkConfig, workspace: Workspace, folder: Path) -> dict[str, str]:
    """Write what a run was started with to `folder`, for its artifacts: settings, packages, changes of the code. Return tags of it."""
    changes = (_git(workspace, "diff", "--binary", "HEAD", "--", ".", *_OUTPUTS, _SECRETS) or "").encode(
        "utf-8", "surrogateescape"
    )
    settings = workspace.root / "params.yaml"
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        text = json.dumps(asdict(benchmark), indent=2, ensure_ascii=False)
        (temporary / CONFIG_FILE).write_text(text, encoding="utf-8")
        (temporary / "packages.txt").write_text(all_packages(), encoding="utf-8")
        if settings.exists():
            (temporary / settings.name).write_bytes(settings.read_bytes())
        if 0 < len(changes) <= PATCH_BYTES:
            (temporary / "code.patch").write_bytes(changes)
    return {"git.patch": f"not kept, {len(changes)} bytes"} if len(changes) > PATCH_BYTES else {}


@cache
def all_packages() -> str:
    """Return name and version of every installed package, a line each."""
    return "".join(f"{name}\n" for name in sorted({f"{item.name}=={item.version}" for item in distributions()}))


def dvc_md5(workspace: Workspace, stage: str, name: str = "") -> str:
    """Return the hash that `dvc.lock` records for an output of a stage: the one called `name`, or else the first.

    DVC writes it as soon as the stage has ended; until then there is none, or that of the time before.
    """
    path = workspace.root / "dvc.lock"
    if not path.exists():
        return ""
    lock = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
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
        done = subprocess.run(["git", *arguments], cwd=workspace.root, capture_output=True, check=False)
    except FileNotFoundError:
        reason = "git is not installed"
    else:
        if done.returncode == 0:
            return done.stdout.decode("utf-8", "surrogateescape")
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {done.returncode}"]
        reason = lines[0].removeprefix("fatal: ")
    if warns:
        _warn_of_git(workspace.root.absolute(), without_password(reason))
    return None


@cache  # once for a folder
def _warn_of_git(root: Path, reason: str) -> None:
    logger.warning("git says nothing of %s (%s): commit and changes of the code are not recorded", root, reason)


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor()


def _gpus() -> list[str]:
    """Return the names of the GPUs: the driver's list, since to ask torch loads CUDA; a container may hide it."""
    found = [
        re.search(r"^Model:\s*(.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    ]
    torch = sys.modules.get("torch")  # only where it is loaded already
    if not found and torch is not None and torch.cuda.is_available():
        return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return [model[1].strip() for model in found if model]
