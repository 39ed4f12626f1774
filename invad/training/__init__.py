"""Features -> model: the training loop, and Ray around it."""
