import fcntl
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from invad.config import Params
from invad.config.loading import parse_params
from invad.config.profiles import profile_text
from invad.errors import InputError

# Before torch is imported: threads that spin are slow as soon as something else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A sum in another order rounds otherwise: with one thread a result does not depend on the machine, and two processes share two cores well.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # at 15, as Ray has it, its workers get what the other tests leave
os.environ.pop("MLFLOW_TRACKING_URI", None)

REPOSITORY = Path(__file__).parent.parent
# What takes longest begins first, so that no process ends with a long file alone; trainings on real data are among the reference.
TIERS = ("reference", "pipeline", "contract", "unit")
# What all tests of a module share and the first one waits for: a browser's tab; reports, exports, checkouts, generated data sets.
MARKED_FIXTURES = {"tab": "browser", **dict.fromkeys(("report", "workplace", "made", "extended", "roots"), "slow")}


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    for item in items:
        if item.path.parent.name == "pipeline":
            item.add_marker(pytest.mark.slow)
        for fixture in MARKED_FIXTURES.keys() & set(item.fixturenames):
            item.add_marker(MARKED_FIXTURES[fixture])
    items.sort(key=lambda item: TIERS.index(item.path.parent.name))


def repository_params(*benchmarks: str) -> dict:
    """The repository's params.yaml as a plain dictionary, free to change; with only these benchmarks if any are named."""
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    for section in params["train"].values():  # one training: three take three times as long
        if isinstance(section, dict) and "seeds" in section:
            section["seed"] = section.pop("seeds")[0]
    if benchmarks:
        params["benchmarks"] = {name: params["benchmarks"][name] for name in benchmarks}
        settings = {entry["settings"] for entry in params["benchmarks"].values()}
        for section in ("splits", "calibration", "features", "train", "score"):
            kept = {"workers", "resources_per_worker", "checkpoint_steps", *settings}
            params[section] = {name: value for name, value in params[section].items() if name in kept}
        datasets = dict.fromkeys(entry["dataset"] for entry in params["benchmarks"].values())
        params["download"] = {name: params["download"][name] for name in datasets}
    return params


def profile_params(name: str) -> Params:
    """The settings of a profile."""
    return parse_params(profile_text(name), name)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """A torch.compile that knows nothing of other tests, and leaves them nothing."""
    import torch

    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def captured(monkeypatch, fresh_compiler) -> list:
    """The graphs that torch.compile captures, each function in one piece; they run as they are, and no compiler is needed."""
    import torch

    graphs = []

    def backend(graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> Callable:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend, fullgraph=True))
    return graphs


@pytest.fixture
def params_dict() -> dict:
    """The repository's params.yaml as a plain dictionary, free to change."""
    return repository_params()


@pytest.fixture
def write_params(tmp_path, monkeypatch):
    """Write a params.yaml into an empty folder, which becomes the current one."""

    def write(params: dict) -> Path:
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(params, sort_keys=False))
        monkeypatch.chdir(tmp_path)
        return path

    return write


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    """A database of MLflow without runs, to copy: its three hundred commits take seconds, so all processes share one."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all workers
    path = folder / "empty_mlflow.db"
    with locked(folder / "empty_mlflow.lock"):
        if not path.exists():
            from mlflow import MlflowClient

            MlflowClient(tracking_uri=f"sqlite:///{folder / 'new_mlflow.db'}").search_experiments()
            (folder / "new_mlflow.db").rename(path)
    return path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock against the other processes."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture
def real_data() -> Path:
    if "INVAD_REAL_DATA" not in os.environ:
        pytest.skip("INVAD_REAL_DATA does not name the folder of real slices")
    return Path(os.environ["INVAD_REAL_DATA"])


def refusal(read: Callable[[Path], object], path: Path) -> str:
    """The message, without the path that it must begin with, with which `read` refuses `path`, in one line."""
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def save_image(path: Path, size: int = 8, value: int = 100) -> Path:
    """Write a plain grey RGB image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size, 3), value, np.uint8)).save(path)
    return path


def save_mask(path: Path, size: int = 8, value: int = 255) -> Path:
    """Write a mask whose upper left quarter has `value`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(mask_bytes(size, value))
    return path


def image_bytes(size: int = 8) -> bytes:
    """A plain grey image as a PNG."""
    stream = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), 100, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def mask_bytes(size: int = 8, value: int = 255) -> bytes:
    """A mask as a PNG; its upper left quarter has `value`."""
    mask = np.zeros((size, size), np.uint8)
    mask[: size // 2, : size // 2] = value
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def mvtec_root(tmp_path) -> Path:
    """A small MVTec AD root: one class, two training images, one normal and two anomalous test images."""
    root = tmp_path / "mvtec_root"
    for name in ("000", "001"):
        save_image(root / f"valve/train/good/{name}.png")
        save_image(root / f"valve/test/broken/{name}.png")
        save_mask(root / f"valve/ground_truth/broken/{name}_mask.png")
    save_image(root / "valve/test/good/000.png")
    return root
