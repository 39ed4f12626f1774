"""The trainable networks, without encoders."""

from invad.models.feature_inversion import FeatureInversion, reconstruction_loss
from invad.models.reference import load_reference_state
from invad.models.reverse_distillation import ReverseDistillation

__all__ = ["FeatureInversion", "ReverseDistillation", "load_reference_state", "reconstruction_loss"]
