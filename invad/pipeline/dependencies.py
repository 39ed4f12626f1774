"""What each stage depends on beside its data, as a text that DVC compares: a line has a value or a digest, and whose it is."""

import json
from dataclasses import asdict
from typing import Any

from invad.config import Params, TrainingsConfig
from invad.config.closure import digest_lines
from invad.methods import METHODS

# The stages of each benchmark, and the section of its settings that each reads; DVC itself compares those without defaults.
SECTIONS = {"splits": "splits", "features": "features", "train": "train", "score": "score", "evaluate": "score"}
OF_METHOD = ("train", "score")  # stages that run a method


def dependencies(params: Params) -> dict[str, str]:
    """Return the text of each file in `data/code`, by its name without suffix, as `train/mvtec`; `InputError`: an ablation is wrong."""
    texts = {"report": digest_lines("report")}
    for dataset, download in params.download.items():
        texts[f"download/{dataset}"] = _lines(f"download.{dataset}", asdict(download)) + digest_lines("download")
    for name, benchmark in params.benchmarks.items():
        for stage, section in SECTIONS.items():
            values = asdict(getattr(benchmark, section))
            if stage == "train":
                values |= {"workers": params.training.workers, **asdict(params.training.resources_per_worker)}
                values |= asdict(benchmark.trainings)
            roots = [stage]
            # Further trainings are scored where they are evaluated.
            if further := stage == "evaluate" and benchmark.trainings != TrainingsConfig():
                roots.append("invad.pipeline.trainings")
            if further or stage in OF_METHOD:
                roots.append(METHODS[benchmark.train.model].__module__)
            texts[f"{stage}/{name}"] = _lines(f"{section}.{benchmark.settings}", values) + digest_lines(*roots)
    for name, config in params.supervised.items():
        first = params.benchmark(config.detectors[0])
        labels = _lines(f"splits.{first.settings}", asdict(first.splits))
        rate = _lines(f"calibration.{first.settings}", asdict(first.calibration))
        texts[f"supervise/{name}"] = (
            _lines(f"supervised.{name}", asdict(config)) + labels + rate + digest_lines("supervise")
        )
    for module, ablation in params.ablations.items():
        from invad.studies.ablation import ablation_of_params, plan_ablation
        from invad.studies.study import flat

        base = plan_ablation(module, ablation_of_params(module, params), params).base
        values = _lines(f"ablations.{module}", asdict(ablation)) + _lines(ablation.benchmark, flat(base))
        methods = sorted(method.__module__ for method in METHODS.values())
        texts[f"ablate/{module}"] = values + digest_lines("ablate", *methods)
    return texts


def changed(before: str, now: str) -> list[str]:
    """Return the names of what has changed, come or gone between two texts of `dependencies`, sorted."""
    return sorted({line.partition("  ")[2] for line in set(before.splitlines()) ^ set(now.splitlines())})


def _lines(name: str, values: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(value)}  {name}.{key}\n" for key, value in values.items())
