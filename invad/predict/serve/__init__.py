"""A model as an HTTP service: `invad-pipe serve`."""
