"""`invad-pipe ablate` and `invad-pipe tune`: what they print and refuse, before anything is extracted or started."""

import subprocess
import sys

import pytest
import typer
import yaml
from studies_toys import tiny_params, tiny_workspace
from typer.testing import CliRunner

from invad.cli.studies import ablate, tune
from invad.errors import InputError
from invad.report.ablations import AblationReport, TrialResult
from invad.studies import ablation, search
from invad.studies.runner import StudyOptions
from invad.studies.search import TuneReport

app = typer.Typer()
app.command()(ablate)
app.command()(tune)


def run(*arguments: str) -> tuple[int, str, str]:
    """Return exit code, standard output, and the message of a refusal, for which `invad-pipe` exits with 2."""
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, InputError):
        assert "\n" not in str(result.exception)
        return 2, result.stdout, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tiny_workspace(tmp_path)[1]


def test_the_list_shows_every_variant_and_marks_the_papers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no params.yaml is needed
    code, out, _ = run("ablate", "--list")
    assert code == 0
    assert "ssm: how the style enters the generator" in out
    assert out.count("(paper)") == 18
    for text in ("space-aware (paper)", "gamma-only", "resnet34.bt_in1k", "InvAD-lite's", "concatenated-l2"):
        assert text in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ablate"], "--module: is missing; --list shows all modules"),
        (["ablate", "--module", "smm"], "unknown module 'smm'; known are method, ssm, "),
        (["ablate", "--module", "ssm", "--variants", "paper,x"], "unknown variant 'x' of the module ssm; known are "),
        (["ablate", "--module", "ssm", "--benchmark", "visa"], "unknown benchmark 'visa'; params.yaml has mvtec"),
        (["ablate", "--module", "ssm", "--set", "train.epohs=3"], "--set train.epohs: unknown key; known are "),
        (["ablate", "--module", "ssm", "--set", "epochs=3"], "--set epochs: unknown key; a key begins with "),
        (["ablate", "--module", "ssm", "--resume", "--restart"], "--resume: goes on with what --restart would remove"),
        (["tune", "--set", "train.epohs=3"], "--set train.epohs: unknown key; known are "),
        (["tune", "--benchmark", "visa"], "unknown benchmark 'visa'"),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_bad_input_is_one_line_and_starts_nothing(arguments, message, workspace, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("invad.cluster.tune.run_trials", lambda *_, **__: pytest.fail("started Ray"))
    monkeypatch.setattr("invad.studies.runner.extract_features", lambda *_: pytest.fail("extracted"))
    code, out, error = run(*arguments)
    assert (code, out) == (2, "")
    assert error.startswith(message)
    assert not workspace.private.exists()


@pytest.mark.parametrize("option", ["--seeds", "--samples"])
def test_numbers_that_make_no_sense_are_refused(option, workspace):
    code, *_ = run(*(["ablate", "--module", "ssm"] if option == "--seeds" else ["tune"]), option, "0")
    assert code == 2


@pytest.mark.slow
def test_a_benchmark_that_is_not_built_is_named(tmp_path, monkeypatch):

    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tiny_params()))
    for arguments in (["ablate", "--module", "ssm"], ["tune"]):
        code, _, error = run(*arguments)
        assert code == 2
        assert "dvc repro splits" in error


@pytest.mark.slow
def test_options_reach_the_study_and_a_failed_trial_the_exit_code(workspace, monkeypatch):
    given, statuses = {}, []

    def run_ablation(module, options, params, workspace):
        given[module] = options
        outcome = [TrialResult("global", 42, status, "why" if status == "failed" else "") for status in statuses]
        study = ablation.plan_ablation(module, options, params)
        return AblationReport(module, module, options.benchmark, "embedded", study.variants, outcome)

    monkeypatch.setattr(ablation, "run_ablation", run_ablation)
    arguments = [
        "ablate",
        "--module",
        "ssm",
        "--variants",
        "global, none",
        "--set",
        "train.epochs=3",
        "--set",
        "train.blocks=1",
    ]
    for status, expected in (("failed", 1), ("finished", 0)):
        statuses[:] = [status]
        code, out, _ = run(*arguments, "--seeds", "3", "--max-concurrent", "1", "--resume")
        assert code == expected
        assert "global" in out
    options = given["ssm"]
    assert options == StudyOptions(
        benchmark="mvtec",
        set={"train.epochs": 3, "train.blocks": 1},
        max_concurrent=1,
        resume=True,
        variants=("global", "none"),
        seeds=3,
    )


def test_tune_prints_the_samples_and_the_fragment(workspace, monkeypatch):
    given = []
    values = {"learning_rate": 0.004, "style_channels": 64, "latent_channels": 16, "blocks": 2}
    measured = {"validation_score": 0.5, "image_auroc": 0.4, "pixel_auroc": 0.6, "pixel_ap": 0.5}

    def run_search(options, params, workspace, tune):
        given.append((options, tune))
        good = (values, TrialResult("base", 42, "finished", metrics=measured))
        bad = (values, TrialResult("sample-02", 42, "failed", "why"))
        return TuneReport("mvtec", (good, bad), "train:\n  mvtec:\n    blocks: 2\n")

    monkeypatch.setattr(search, "run_search", run_search)
    code, out, _ = run("tune", "--samples", "7", "--seed", "3")
    assert code == 1  # a sample has failed
    assert "50.0" in out
    assert "sample-02: why" in out
    assert out.endswith("train:\n  mvtec:\n    blocks: 2\n")
    options, tuned = given[0]
    assert (options.benchmark, tuned.samples, tuned.seed, tuned.validation_share) == ("mvtec", 7, 3, 0.2)


def test_help_and_list_import_nothing_heavy():

    code = (
        "import sys; from invad.cli.studies import ablate; ablate(list_=True)\n"
        "print([name for name in ('torch', 'ray', 'mlflow', 'timm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
