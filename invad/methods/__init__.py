"""The anomaly-detection methods that can be trained: features of the frozen encoder in, loss and anomaly map out.

A method is one module with a subclass of `Method`, its settings in `invad.config.TRAIN_CONFIGS`, and one line in `METHODS`.
"""

from invad.config import ModelName, TrainConfig
from invad.methods.base import EncoderOutput, Method
from invad.methods.invad.method import InvAD
from invad.methods.rd.method import RD

__all__ = ["EncoderOutput", "METHODS", "Method", "build_method"]

METHODS: dict[ModelName, type[Method]] = {"invad": InvAD, "rd": RD}


def build_method(output: EncoderOutput, config: TrainConfig) -> Method:
    """Build the method that `config.model` names for the features of an encoder, initialised from torch's seed."""
    return METHODS[config.model](output, config)
