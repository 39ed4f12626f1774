"""The trainable networks, without encoders."""

from invad.models.feature_inversion import FeatureInversion, reconstruction_loss
from invad.models.reference import load_reference_state

__all__ = ["FeatureInversion", "load_reference_state", "reconstruction_loss"]
