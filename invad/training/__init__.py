"""Features -> model: the training loop and its curve."""
