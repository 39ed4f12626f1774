"""A trained model as one file for other runtimes: encoder, method, anomaly map and blur in one graph, thresholds in its metadata."""

from typing import Literal

Format = Literal["onnx", "torch-export"]
RuntimeName = Literal[
    "auto", "torch", "onnx"
]  # of `predict` and `serve`, which take the graph from a cache of their own
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch-export": ".pt2"}
