"""The pipeline: what each stage does, the frame around it, and what a run needs and leaves."""
