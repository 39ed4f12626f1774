"""The report of an ablation study: tables and a figure."""
