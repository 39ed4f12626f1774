"""Studies: many trainings that differ in a few settings, to compare the settings or to find good ones."""
