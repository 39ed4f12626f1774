"""`invad-pipe tune`: what is searched of which method, and what a report says of methods that train on synthetic anomalies."""

import csv
from contextlib import contextmanager
from dataclasses import replace

import pytest
from conftest import profile_params

from invad.config import TuneConfig
from invad.errors import InputError
from invad.studies import search
from invad.studies.runner import StudyOptions
from invad.studies.search import FLATTERED, plan_search, run_search, search_text
from invad.studies.trial import SCORED_BY, VALIDATION_SCORE, TrialResult
from invad.workspace import Workspace

OPTIONS = StudyOptions("mvtec")


def searched(profile: str, folder, monkeypatch):
    """The report of a search whose second sample is the best, and its files."""
    written = []

    @contextmanager
    def finished_study(study, *_):
        scores = [dict.fromkeys((VALIDATION_SCORE, *SCORED_BY), 0.1 * number) for number in range(3)]
        names = [one.name for one in study.variants]
        yield (
            [TrialResult(name, 1, "finished", metrics=one) for name, one in zip(names, scores, strict=True)],
            written.extend,
        )

    monkeypatch.setattr(search, "finished_study", finished_study)
    report = run_search(OPTIONS, profile_params(profile), Workspace(folder), TuneConfig(samples=3))
    return report, [path.read_text() for path in written]


def test_the_scores_of_a_method_that_trains_on_synthetic_anomalies_come_with_a_warning(tmp_path, monkeypatch):
    report, (table, fragment) = searched("paper-draem", tmp_path, monkeypatch)
    assert f"note: {FLATTERED}" in search_text(report)
    rows = list(csv.DictReader(table.splitlines()))
    assert {row["note"] for row in rows} == {FLATTERED}
    comments = " ".join(line.removeprefix("# ") for line in fragment.splitlines() if line.startswith("#"))
    assert FLATTERED in comments
    assert [*report.samples[0][0]] == ["learning_rate"]  # it has none of the other settings


def test_other_methods_are_judged_without_one(tmp_path, monkeypatch):
    report, (table, fragment) = searched("paper", tmp_path, monkeypatch)
    assert "note" not in search_text(report)
    assert "note" not in table
    assert "synthetic anomalies" not in fragment
    assert [*report.samples[0][0]] == list(search.SEARCHED)


def test_a_method_without_a_learning_rate_leaves_nothing_to_try():
    with pytest.raises(InputError, match="mvtec is of patchcore, which has no learning_rate"):
        plan_search(OPTIONS, profile_params("paper-patchcore"), TuneConfig())
    known = profile_params("paper")
    drawn = [replace(known.tune, samples=count) for count in (2, 4)]
    few, more = ([one.changes for one in plan_search(OPTIONS, known, tune).variants] for tune in drawn)
    assert more[:2] == few
