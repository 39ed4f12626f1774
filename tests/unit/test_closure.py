"""What code a result depends on: all that it imports, and nothing that is a comment."""

import ast
import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY, repository_params

from invad.config import closure, load_params
from invad.config.closure import NEUTRAL, STAGES, code_digest, digest_lines
from invad.methods import METHODS
from invad.pipeline.dependencies import OF_METHOD, SECTIONS, changed, dependencies

ROOTS = (*STAGES, "invad.cluster.train", "invad.features.extract", "invad.studies.trial")
WITHOUT_METHOD = ("download", "splits", "features", "evaluate", "supervise", "report", "invad.features.extract")


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A copy of the package, whose closures are looked at from now on."""
    root = tmp_path / "invad"
    shutil.copytree(REPOSITORY / "invad", root, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(closure, "_root", lambda: root)
    forget()
    yield root
    monkeypatch.undo()
    forget()


def forget() -> None:
    for function in vars(closure).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()


def names(root: str, model: str = "invad") -> set[str]:
    """The files that a result depends on; where a method is run, of the model."""
    return {path.relative_to(closure._root()).as_posix() for path in closure.closure(*with_methods(root, model))}


def with_methods(root: str, model: str = "invad") -> list[str]:
    models = METHODS if root in ("ablate", "invad.studies.trial") else [model] if root not in WITHOUT_METHOD else []
    return [root, *(METHODS[each].__module__ for each in models)]


def test_the_stages_are_those_of_dvc_yaml():
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    assert set(stages) == {"check", *STAGES}
    for name in STAGES:
        deps = stages[name].get("do", stages[name])["deps"]
        code = [path for path in deps if path.startswith(("data/code", "invad", "stages"))]
        item = {"download": "/${item.dataset}", "report": ""}.get(name, "/${key}")
        assert code == [f"data/code/{name}{item}.txt"]
    assert stages["check"]["deps"] == ["invad", "params.yaml"]


def test_the_charts_of_dvc_have_all_benchmarks_of_the_settings_and_files_that_stages_write():
    pipeline = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())
    outs = [out for name in ("train", "evaluate") for out in pipeline["stages"][name]["do"]["outs"]]
    for chart in pipeline["plots"]:
        ((title, settings),) = chart.items()
        for name in repository_params()["benchmarks"]:
            written = [out.replace("${key}", name) for out in outs]
            assert [path for path in settings["y"] if path.startswith(tuple(written))], f"{title}: {name} is missing"
        assert len(settings["y"]) == len(repository_params()["benchmarks"])
        assert (REPOSITORY / f".dvc/plots/{settings['template']}.json").is_file()
    assert {Path(out).parent.as_posix() for out in outs} >= set(pipeline["metrics"])


def test_a_stage_depends_on_what_its_modules_import_and_not_on_what_others_do():
    assert {
        "methods/invad/network.py",
        "methods/invad/layers.py",
        "training/loop.py",
        "features/source.py",
        "devices.py",
    } <= names("train")
    assert {
        "scoring/score.py",
        "training/model_folder.py",
        "methods/rd.py",
        "methods/maps.py",
        "data/arrow.py",
    } <= names("score", "rd")
    assert {"metrics/ranking.py", "scoring/thresholds.py", "scoring/store.py"} <= names("evaluate")
    assert {"data/coco_ad.py", "data/own/table.py"} <= names("splits")
    assert {"data/official/unpack.py", "data/embedded/coco.py"} <= names("download")
    assert {"report/page/templates/page.css", "report/published_csv/results.csv"} <= names("report")
    assert not {"scoring/score.py", "metrics/ranking.py", "data/coco_ad.py"} & names("train")
    assert not {"scoring/score.py", "features/encoder.py"} & names("evaluate")
    assert not {name for stage in ("train", "score", "evaluate") for name in names(stage) if name.startswith("report")}
    with pytest.raises(LookupError, match="no stage 'trian'"):
        closure.closure("trian")


@pytest.mark.parametrize("stage", OF_METHOD)
def test_a_stage_that_runs_a_method_depends_on_no_other(stage):
    files = {METHODS[model].__module__.removeprefix("invad.").replace(".", "/") + ".py" for model in METHODS}
    for model in METHODS:
        own = METHODS[model].__module__.removeprefix("invad.").replace(".", "/") + ".py"
        assert files & names(stage, model) == {own}
        assert "methods/__init__.py" not in names(stage, model)


def test_a_stage_depends_on_all_values_of_its_settings_and_on_the_code_of_its_method(params_dict, write_params):
    params = load_params(write_params(params_dict))
    before = dependencies(params)
    assert set(before) == {
        *(f"download/{dataset}" for dataset in params.download),
        *(f"{stage}/{name}" for stage in SECTIONS for name in params.benchmarks),
        "report",
    }
    for stage, section in SECTIONS.items():
        for name, benchmark in params.benchmarks.items():
            values = getattr(benchmark, section)
            for field in fields(values):  # also those that params.yaml leaves out
                line = f"{json.dumps(getattr(values, field.name))}  {section}.{benchmark.settings}.{field.name}"
                assert line in before[f"{stage}/{name}"].splitlines()
    params_dict["train"]["visa"] = {"model": "rd", "epochs": 3}
    after = dependencies(load_params(write_params(params_dict)))
    assert {name for name in before if before[name] != after[name]} == {"train/visa", "score/visa"}
    names = changed(before["train/visa"], after["train/visa"])
    assert {"train.visa.epochs", "train.visa.recipe", "invad/methods/rd.py", "invad/methods/invad/network.py"} <= {
        *names
    }
    assert not {"train.visa.seed", "invad/training/loop.py"} & {*names}
    assert "invad/methods/rd.py" not in after["train/mvtec"]


def test_whatever_is_imported_is_covered_or_neutral():
    found = {module for module in closure._modules() if closure._is_neutral(module)}
    for module in NEUTRAL:
        assert module in found, f"{module} is neutral, but there is no such module"
    packages = {module.rpartition(".")[0] for module in closure._modules() if module.count(".") > 1}
    for module in NEUTRAL:  # a package is neutral with all that is in it, but for two
        alone = module in ("invad", "invad.methods")
        assert module not in packages or closure._is_neutral(f"{module}.anything") != alone
    assert not closure._is_neutral("invad.training.loop")


# What takes seconds to import, and that a stage has no need of.
SPARED = {
    "download": {"torch", "timm", "ray", "mlflow"},
    "splits": {"torch", "timm", "ray", "mlflow"},
    "features": {"ray", "mlflow"},
    "train": {"ray"},
    "score": {"timm", "ray", "mlflow"},
    "evaluate": {"torch", "timm", "ray", "matplotlib"},
    "report": {"torch", "timm", "ray"},
    "ablate": set(),
    "supervise": {"torch", "timm", "ray", "matplotlib"},
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_python_imports_nothing_for_a_stage_that_its_closure_lacks(stage):
    """The closure is read from the text of the code; here Python itself runs every import of it."""
    code = closure.stage_imports(stage) + "\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    modules = {name for name in imported if name.partition(".")[0] == "invad" and not closure._is_neutral(name)}
    modules -= closure.COUNTED  # settings, which are neutral, import them too; a test below says which stages do
    files = {closure._modules()[name].relative_to(closure._root()).as_posix() for name in modules}
    assert len(files) > 3
    # The table of the methods imports all, and a stage runs one.
    further = names("invad.pipeline.trainings") if stage == "evaluate" else set()  # a root of its own
    assert files <= set().union(further, *(names(stage, model) for model in METHODS))
    assert not imported & SPARED[stage]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('    """Return the GPU where there is one, else the CPU."""\n', '    """Return a device."""\n'),
        ("    # Nothing here reads uninitialised memory; filling", "    # filling"),
        ("\n\ndef best_device", "\n\n# Best?\n\n\ndef best_device"),
        ('"""Which device', '"""# Which device'),
    ],
)
def test_comments_and_docstrings_change_nothing(old, new):
    text = (REPOSITORY / "invad/devices.py").read_text()
    assert old in text
    assert meaning(text.replace(old, new, 1)) == meaning(text)
    assert meaning(text.replace('"cuda"', '"cpu"', 1)) != meaning(text)


def meaning(source: str) -> str:
    return ast.unparse(closure._Run().visit(ast.parse(source)))


def test_a_number_sign_in_a_text_is_no_comment_and_types_alone_are_not_run():
    assert (
        meaning("a = '#1'  # one\nb = f'{a}#2'\nc = '''\n# three\n'''\n")
        == "a = '#1'\nb = f'{a}#2'\nc = '\\n# three\\n'"
    )
    assert meaning('def f():\n    """Docs."""\n    return 1\n') == "def f():\n    return 1"
    assert meaning("if TYPE_CHECKING:\n    import a\nif b:\n    import c\n") == "if b:\n    import c"


@pytest.mark.parametrize(
    ("file", "roots"),
    [
        ("methods/invad/network.py", {"train", "score", "ablate"}),
        ("metrics/ranking.py", {"evaluate", "supervise", "ablate", "report"}),
        ("scoring/thresholds.py", {"evaluate"}),
        ("report/page/templates/page.css", {"report", "ablate"}),
        ("tracking/origin.py", set()),
        ("config/methods.py", set()),  # its defaults are params
        ("config/constants.py", {"download", "splits", "features", "train", "score", "report", "ablate"}),
    ],
)
def test_a_file_belongs_to_the_stages_that_run_it(file, roots):
    assert (REPOSITORY / "invad" / file).is_file()
    assert {stage for stage in STAGES if file in names(stage)} == roots
    assert (file in names("invad.studies.trial")) == bool("train" in roots or file.startswith("metrics"))


@pytest.mark.slow
def test_edits_reach_the_digests_of_the_stages_that_run_them(package):
    """Of code, of a stage's own function and of what it uses in its module; and comments reach none."""
    before = {root: code_digest(*with_methods(root)) for root in ROOTS}
    for file, old, new in (
        ("methods/invad/network.py", "return", "return None or"),
        ("pipeline/stages.py", "json.dumps(own.curves", "json.dumps({} or own.curves"),
        ("devices.py", '"""Return the GPU', '"""The GPU'),
        ("scoring/thresholds.py", "\n\n\n", "\n\n\n# A comment.\n"),
    ):
        text = (package / file).read_text()
        assert old in text
        (package / file).write_text(text.replace(old, new, 1))
    forget()
    changed = {root for root in ROOTS if code_digest(*with_methods(root)) != before[root]}
    # No file of `evaluate` has changed but the function that writes its curves.
    assert changed == {"train", "score", "evaluate", "ablate", "invad.cluster.train", "invad.studies.trial"}
    assert all(str(package.parent) not in digest_lines(root) for root in ROOTS)
