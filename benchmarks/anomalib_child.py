"""anomalib's PatchCore in OpenVINO, timed for `export.py` in a Python of its own: anomalib is no dependency, and wants other versions.

    PYTHON benchmarks/anomalib_child.py mobilenetv2_100 256 2000 2      # encoder, pixels, vectors, threads

Weights and memory are random. Says its versions in a line of JSON, then reads sizes of batches, one a line, and answers each with seconds.
"""

import contextlib
import json
import sys
import tempfile
import time
from importlib.metadata import version

import numpy as np


def main() -> None:
    """Export the model, and time what is asked for."""
    encoder, size, vectors, threads = sys.argv[1], *map(int, sys.argv[2:])
    with contextlib.redirect_stdout(sys.stderr):
        import openvino
        import torch
        from anomalib.models import Patchcore

        torch.manual_seed(0)
        levels = ("layer2", "layer3") if "resnet" in encoder else ("blocks.2", "blocks.4")
        options = {"post_processor": False, "evaluator": False, "visualizer": False}
        model = Patchcore(encoder, levels, pre_trained=False, **options)
        network = model.model.eval()
        with torch.no_grad():
            width = network.generate_embedding(network.feature_extractor(torch.zeros(1, 3, size, size))).shape[1]
        network.memory_bank = torch.randn(vectors, width)
        core = openvino.Core()
        with tempfile.TemporaryDirectory() as folder:
            path = model.to_openvino(folder, input_size=(size, size), onnx_kwargs={"dynamic_shapes": None})
            settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
            compiled = core.compile_model(core.read_model(path), "CPU", settings)
    said = {"versions": {name: version(name) for name in ("anomalib", "openvino", "torch")}, "dimensions": width}
    print(json.dumps(said), flush=True)
    rng = np.random.default_rng(0)
    for line in sys.stdin:
        images = rng.random((int(line), 1, 3, size, size), np.float32)
        wall, cpu = time.perf_counter(), time.process_time()
        for image in images:  # its graph has no free batch, and its own inferencer gives it one image at a time
            compiled(image)
        seconds = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
