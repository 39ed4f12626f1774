"""What the trainings of a benchmark give beside its model: its further seeds, and earlier states of all."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from invad.config import BenchmarkConfig
from invad.data.split_table import Split
from invad.pipeline.evaluating import Evaluated, evaluate_maps
from invad.training.snapshots import Snapshot, read_snapshots
from invad.workspace import Workspace


def evaluate_trainings(
    benchmark: BenchmarkConfig, split: Split, workspace: Workspace, own: Evaluated
) -> dict[str, Any]:
    """Return what `reports/trainings` says of a benchmark beside `own`, which its model gives; maps of others are not kept.

    `seeds`: metrics by further seed. `learning`: of all seeds, where `evaluate_at` asks for it, the means over the classes after some of
    the steps and after the last one.
    """
    snapshots = read_snapshots(workspace.snapshots(benchmark.name))
    found = dict(_of_snapshots(benchmark, split, workspace, snapshots)) if snapshots else {}
    seeds = {str(each.seed): result for each, result in found.items() if each.is_last}
    earlier = [each for each in snapshots if not each.is_last]
    learning = [_point(each, found[each]) for each in snapshots if earlier]
    if earlier:  # the model's own end lies in no snapshot
        learning.append(_point(earlier[0].end(benchmark.train.seed), own.metrics))
    learning.sort(key=lambda point: (benchmark.seeds.index(point["seed"]), point["step"]))
    return {"benchmark": benchmark.name, "seeds": seeds, "learning": learning}


def _of_snapshots(
    benchmark: BenchmarkConfig, split: Split, workspace: Workspace, snapshots: list[Snapshot]
) -> Iterator[tuple[Snapshot, dict[str, Any]]]:
    from invad.scoring.score import score_images  # with torch, which most benchmarks do without here

    for snapshot in snapshots:
        model = workspace.snapshots(benchmark.name) / snapshot.folder
        with TemporaryDirectory(prefix="invad-maps-", dir=workspace.snapshots(benchmark.name).parent) as temporary:
            maps = Path(temporary) / "maps"
            one = benchmark.of_seed(snapshot.seed)
            score_images(one, split, workspace.features(benchmark.name), model, maps)
            yield snapshot, evaluate_maps(one, split, maps).metrics


def _point(snapshot: Snapshot, result: dict[str, Any]) -> dict[str, Any]:
    return {"seed": snapshot.seed, "step": snapshot.step, "epoch": snapshot.epoch, "mean": result["mean"]}
