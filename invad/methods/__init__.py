"""The anomaly-detection methods. A method is one file with a subclass of `Method`, and one line in `METHODS`."""

from invad.config import ModelName, TrainConfig
from invad.methods.base import EncoderOutput, Method
from invad.methods.invad.method import InvAD
from invad.methods.rd import RD

__all__ = ["EncoderOutput", "METHODS", "Method", "build_method"]

METHODS: dict[ModelName, type[Method]] = {"invad": InvAD, "rd": RD}


def build_method(output: EncoderOutput, config: TrainConfig) -> Method:
    """Build the method that `config.model` names for the features of an encoder, initialised from torch's seed."""
    return METHODS[config.model](output, config)
