"""The names of params and metrics: the same in every run, whatever was trained, so that MLflow lines the runs up."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import count
from typing import Any, get_args

from invad.config import SPLIT_CONFIGS, TRAIN_CONFIGS, BenchmarkConfig

NOT_APPLICABLE = "-"  # the param of a setting that this run's method or data set does not have


def run_name(benchmark: BenchmarkConfig) -> str:
    """Return what a run is called in MLflow: benchmark, method, encoder, epochs where the method has any, and seed."""
    settings = flatten_settings(benchmark)
    epochs = settings.get("train.epochs", NOT_APPLICABLE)
    length = [] if epochs == NOT_APPLICABLE else [f"{epochs} {'epoch' if epochs == '1' else 'epochs'}"]
    method = f"{benchmark.name} {settings['train.model']} {settings['features.encoder']}"
    return ", ".join([method, *length, f"seed {settings['train.seed']}"])


def flatten_settings(benchmark: BenchmarkConfig) -> dict[str, str]:
    """Return all settings by dotted name, and `-` for those that only other methods and data sets have."""
    everywhere = {
        name: NOT_APPLICABLE
        for section, configs in (("splits", SPLIT_CONFIGS), ("train", TRAIN_CONFIGS))
        for config in dict.fromkeys(configs.values())
        for name in _type_names(config, f"{section}.")
    }
    return everywhere | {name: str(value) for name, value in _values(benchmark, "")}


def flatten_result(result: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the metrics of `reports/metrics/<benchmark>.json` by name.

    Of the mean they are `<protocol>/<metric>`, of a class `<protocol>/<metric>/<class>`; those at the calibrated thresholds have
    `calibrated` in place of the protocol. None stands for what cannot be computed.
    """
    point = result.get("operating_point", {})
    rows = [("", kind, values) for kind, values in result["mean"].items()]
    rows += [(name, kind, values) for name, kinds in result["per_class"].items() for kind, values in kinds.items()]
    rows += [(name, "calibrated", values) for name, values in point.get("per_class", {}).items()]
    rows += [("", "calibrated", point.get("mean", {}))]
    ends = {"": ""}
    for name in sorted({name for name, _, _ in rows} - {""}):  # each a name of its own that MLflow allows
        allowed = "/" + (re.sub(r"[^\w\- .]", "_", name).strip(" .") or "_")
        ends[name] = next(end for n in count(1) if (end := f"{allowed}_{n}" if n > 1 else allowed) not in ends.values())
    return {f"{kind}/{key}{ends[name]}": value for name, kind, values in rows for key, value in values.items()}


def _values(config: Any, prefix: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401  (a dataclass)
    for field in fields(config):
        value = getattr(config, field.name)
        yield from (
            _values(value, f"{prefix}{field.name}.") if is_dataclass(value) else [(f"{prefix}{field.name}", value)]
        )


def _type_names(config: type, prefix: str) -> Iterator[str]:
    for field in fields(config):
        nested = [kind for kind in (field.type, *get_args(field.type)) if isinstance(kind, type) and is_dataclass(kind)]
        for kind in nested:
            yield from _type_names(kind, f"{prefix}{field.name}.")
        if not nested:
            yield f"{prefix}{field.name}"
