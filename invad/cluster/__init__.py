"""Ray: the only package that knows it. Work that one process can do alone never starts a cluster."""
