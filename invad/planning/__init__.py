"""What the pipeline will need, estimated from `params.yaml` and what is there already; `invad.plan` puts it together."""
