"""InvAD and InvAD-lite (arXiv:2404.10760)."""
