"""anomalib's PatchCore or Reverse Distillation, trained and run for `time_to_quality.py` in a Python of its own: it is no dependency.

    PYTHON benchmarks/anomalib_fit.py < job.json

The job: `model` (`patchcore`, `reverse_distillation`), `encoder` of timm and `weights`, a safetensors file of its state; `image_size`,
`batch_size`, `epochs`, `seed`, `threads`; `folders` of normal images to train on, `images` to score; `maps`, the npz file that is written.
Says seconds and versions in a line of JSON.
"""

import contextlib
import json
import sys
import tempfile
import time
from importlib.metadata import version
from typing import Any

import numpy as np

LAYERS = {
    "resnet": ("layer1", "layer2", "layer3"),
    "mobilenetv2_100": ("blocks.1", "blocks.2", "blocks.4"),
}  # strides 4, 8, 16
WORKERS = 1  # of its data loader, beside the training process


def main() -> None:
    """Train, and score the images; the time is that of the training, from the files on."""
    job = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        said = fit(job)
    print(json.dumps(said), flush=True)


def fit(job: dict[str, Any]) -> dict[str, Any]:
    """Do what the job says, and return what is said of it."""
    import torch
    from anomalib.data import Folder
    from anomalib.engine import Engine
    from anomalib.models import Patchcore, ReverseDistillation

    torch.set_num_threads(job["threads"])
    torch.manual_seed(job["seed"])
    np.random.seed(job["seed"])  # noqa: NPY002  (the one that anomalib draws from)
    wall, cpu = time.perf_counter(), time.process_time()
    kind = {"patchcore": Patchcore, "reverse_distillation": ReverseDistillation}[job["model"]]
    model = build(kind, job)
    batches = {"train_batch_size": job["batch_size"], "num_workers": WORKERS}
    splits = {"test_split_mode": "none", "val_split_mode": "none"}
    data = Folder(name="images", normal_dir=job["folders"], **batches, **splits)
    data.setup()
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"logger": False, "enable_progress_bar": False}
        length = {"max_epochs": job["epochs"]} if job["model"] == "reverse_distillation" else {}
        Engine(accelerator="cpu", default_root_dir=folder, **quiet, **length).fit(model, data.train_dataloader())
    seconds = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    maps, scores = scored(model.eval(), job)
    np.savez(job["maps"], maps=maps, scores=scores)
    return seconds | {"versions": {name: version(name) for name in ("anomalib", "torch")}}


def build(kind: Any, job: dict[str, Any]) -> Any:  # noqa: ANN401  (of anomalib)
    """Return a model of a kind, with the weights of the encoder that the job names."""
    from safetensors.torch import load_file

    layers = next(layers for prefix, layers in LAYERS.items() if prefix in job["encoder"])
    resized = kind.configure_pre_processor(image_size=(job["image_size"], job["image_size"]))
    parts = {"pre_processor": resized, "post_processor": False, "evaluator": False, "visualizer": False}
    model = kind(job["encoder"], layers[1:] if job["model"] == "patchcore" else layers, pre_trained=False, **parts)
    extractor = getattr(model.model, "feature_extractor", None) or model.model.encoder
    network, state = extractor.feature_extractor, load_file(job["weights"])
    network.load_state_dict({name: state[name] for name in network.state_dict()})
    return model


def scored(model: Any, job: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:  # noqa: ANN401
    """Return raw maps, float32 (N, size, size), and scores, float32 (N,), of the images."""
    import torch
    from anomalib.data.utils import read_image

    maps, scores = [], []
    with torch.no_grad():
        for path in job["images"]:
            image = torch.as_tensor(read_image(path, as_tensor=True))[None]
            found = model.model(model.pre_processor.transform(image))
            maps.append(found.anomaly_map.reshape(1, *found.anomaly_map.shape[-2:]))
            scores.append(found.pred_score.reshape(1))
    return torch.cat(maps).float().numpy(), torch.cat(scores).float().numpy()


if __name__ == "__main__":
    main()
