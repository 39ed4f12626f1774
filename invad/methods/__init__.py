"""The anomaly-detection methods. A method is one file with a subclass of `Method`, and one line in `METHODS`.

Its settings are a class in `invad.config.methods`, of the same name in `TRAIN_CONFIGS`.
"""

from invad.config import TrainConfig
from invad.methods.base import EncoderOutput, Method
from invad.methods.destseg import DeSTSeg
from invad.methods.dinomaly import Dinomaly
from invad.methods.draem import DRAEM
from invad.methods.invad.network import InvAD
from invad.methods.mvad import MVAD
from invad.methods.patchcore import PatchCore
from invad.methods.rd import RD
from invad.methods.simplenet import SimpleNet
from invad.methods.tocoad import ToCoAD
from invad.methods.uniad import UniAD

__all__ = ["EncoderOutput", "METHODS", "Method", "build_method"]

METHODS: dict[str, type[Method]] = {
    "invad": InvAD,
    "rd": RD,
    "patchcore": PatchCore,
    "simplenet": SimpleNet,
    "uniad": UniAD,
    "dinomaly": Dinomaly,
    "draem": DRAEM,
    "destseg": DeSTSeg,
    "mvad": MVAD,
    "tocoad": ToCoAD,
}


def build_method(output: EncoderOutput, config: TrainConfig) -> Method:
    """Build the method that `config.model` names for the features of an encoder, initialised from torch's seed."""
    return METHODS[config.model](output, config)
