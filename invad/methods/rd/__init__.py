"""RD: Reverse Distillation (CVPR 2022)."""
