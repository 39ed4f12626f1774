"""What is built for others to install: contents, metadata, and the commands in an environment that has the core dependencies alone.

That environment is a new one with links to exactly the distributions that the wheel's metadata ask for, directly or through others.
"""

import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable
from email.message import Message
from email.parser import Parser
from importlib.metadata import Distribution, distribution
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import REPOSITORY, save_image
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from prediction_toys import toy_model_folder

import invad
from invad.cli import EXTRAS, missing_extra

# Runs the command line, or imports the package alone, where every import of a heavy module fails; then says what is there all the same.
WITHOUT_HEAVY = """
import atexit, sys
heavy = {!r}
sys.modules.update(dict.fromkeys(heavy))
atexit.register(lambda: print("imported:", [name for name in sys.modules if name.partition(".")[0] in heavy and sys.modules[name]]))
import invad
if sys.argv[1:]:
    from invad.cli import main
    main()
"""
# Runs several command lines, one after another, and says what each has printed.
COMMANDS = """
import contextlib, io, json, sys
from invad.cli import main
printed = []
for arguments in json.loads(sys.argv[1]):
    out, error, code = io.StringIO(), io.StringIO(), 0
    sys.argv = ["invad-pipe", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    printed.append([code, out.getvalue(), error.getvalue()])
print(json.dumps(printed))
"""
HEAVY = (
    "torch",
    "timm",
    "matplotlib",
    "pyarrow",
    "PIL",
    "scipy",
    *EXTRAS,
)  # nothing of this is needed to say what there is


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The folder of sdist and wheel."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(REPOSITORY), cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


class Environment:
    """A virtual environment with the wheel and the core dependencies, and an empty folder to work in."""

    def __init__(self, root: Path, wheel: Path, requirements: list[str]) -> None:
        self.python, self.folder = root / "venv/bin/python", root / "work"
        self.folder.mkdir()
        run(sys.executable, "-m", "venv", "--without-pip", str(root / "venv"), cwd=root)
        (self.packages,) = (root / "venv/lib").glob("python*/site-packages")
        for source in {source for found in needed(requirements) for source in installed(found)}:
            (self.packages / source.name).symlink_to(source)
        install = ("install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel))
        run(sys.executable, "-m", "pip", "--python", str(self.python), *install, cwd=root)

    def pipe(self, *arguments: str, code: int = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return run(str(self.python.parent / "invad-pipe"), *arguments, cwd=cwd or self.folder, code=code)

    def pipes(self, *lines: str, cwd: Path | None = None) -> list[tuple[int, str, str]]:
        """Exit code, output and errors of several command lines, which share a process: to start one takes longer than most of them."""
        commands = json.dumps([line.split() for line in lines])
        done = run(str(self.python), "-c", COMMANDS, commands, cwd=cwd or self.folder)
        return [tuple(one) for one in json.loads(done.stdout.splitlines()[-1])]

    def run(self, code: str) -> str:
        return run(str(self.python), "-c", code, cwd=self.folder).stdout


def run(*command: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def needed(requirements: Iterable[str]) -> list[Distribution]:
    """The distributions that satisfy the requirements, with all that these require."""
    found, asked = {}, {(requirement, "") for requirement in requirements}
    waiting = list(asked)
    while waiting:
        text, extra = waiting.pop()
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        dist = distribution(requirement.name)
        found[canonicalize_name(requirement.name)] = dist
        new = {(one, of) for one in dist.requires or () for of in ("", *requirement.extras)} - asked
        asked |= new
        waiting += new
    return list(found.values())


def installed(dist: Distribution) -> set[Path]:
    """What of a distribution lies directly in `site-packages`."""
    tops = {path.parts[0] for path in dist.files or ()} - {"..", "__pycache__"}
    return {Path(str(dist.locate_file(top))) for top in tops}


@pytest.fixture(scope="module")
def core(tmp_path_factory, wheel, metadata) -> Environment:
    requirements = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    return Environment(tmp_path_factory.mktemp("core"), wheel, requirements)


def test_both_pass_twine(built):
    files = sorted(path.name for path in built.iterdir())
    assert files == [f"invad-{invad.__version__}-py3-none-any.whl", f"invad-{invad.__version__}.tar.gz"]
    run(sys.executable, "-m", "twine", "check", "--strict", *files, cwd=built)


def test_the_wheel_has_all_that_git_has_of_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "invad", cwd=REPOSITORY).stdout
    assert names == {name for name in listed.splitlines() if (REPOSITORY / name).is_file()}
    for name in (
        "config/profiles/paper.yaml",
        "report/page/templates/index.html.j2",
        "report/page/templates/page.css",
        "report/published_csv/results.csv",
        "py.typed",
    ):
        assert f"invad/{name}" in names


def test_the_sdist_has_package_and_pages_but_neither_tests_nor_data_nor_reports(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        tops = {Path(name).parts[1] for name in archive.getnames() if len(Path(name).parts) > 1}
    pages = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE", "docs"}
    assert tops == {"invad", "pyproject.toml", "PKG-INFO", ".gitignore"} | pages


def test_the_metadata_say_what_it_is(metadata):
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert metadata["Version"] == invad.__version__ == citation["version"] == project["version"]
    assert (metadata["License-Expression"], metadata["License-File"]) == ("Apache-2.0", "LICENSE")
    assert set(metadata.get_all("Provides-Extra")) == {"pipeline", "export", "segad", "serve", "dev"}
    assert set(metadata["Requires-Python"].split(",")) == set(project["requires-python"].split(","))


def test_every_package_of_an_extra_is_known_as_one():
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in ("pipeline", "export", "segad", "serve"):
        for requirement in extras[extra]:
            tops = {path.stem for path in installed(distribution(Requirement(requirement).name))}
            assert [EXTRAS[name] for name in tops if name in EXTRAS] == [extra], requirement


def test_only_a_package_that_is_not_there_asks_for_an_extra():
    missing = ModuleNotFoundError("No module named 'ray'", name="ray")
    assert (
        missing_extra(missing)
        == "ray is not installed; it comes with the extra pipeline: pip install 'invad[pipeline]'"
    )
    for name in ("ray.tune.nothing", "invad.nothing", "numpy", None):
        assert missing_extra(ModuleNotFoundError("No module", name=name)) is None


@pytest.mark.parametrize("arguments", [None, ("--help",), ("--version",), ("profile", "list", "--help")])
def test_nothing_heavy_is_imported_before_it_is_needed(arguments, tmp_path):
    done = run(sys.executable, "-c", WITHOUT_HEAVY.format(HEAVY), *(arguments or ()), cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "imported: []"


def test_the_environment_has_the_core_alone(core):
    run(sys.executable, "-m", "pip", "--python", str(core.python), "check", cwd=core.folder)
    code = "import importlib.util as util, invad, json; print(json.dumps([invad.__file__, [x for x in {} if util.find_spec(x)]]))"
    file, extras = json.loads(core.run(code.format(sorted(EXTRAS))))
    assert Path(file) == core.packages / "invad/__init__.py"
    assert extras == ["jinja2"]  # torch needs it


def test_help_and_version(core):
    assert core.pipe("--version").stdout == f"{invad.__version__}\n"
    assert "evaluate" in core.pipe("--help").stdout


def test_maps_are_evaluated(core):
    maps, masks = np.zeros((4, 8, 8), np.float32), np.zeros((4, 8, 8), np.uint8)
    masks[2:, :4, :4] = 1
    maps[masks == 1] = 1
    np.save(core.folder / "maps.npy", maps)
    np.save(core.folder / "masks.npy", masks)
    core.pipe("evaluate", "--maps", "maps.npy", "--masks", "masks.npy", "--json", "result.json")
    result = json.loads((core.folder / "result.json").read_text())
    assert result["mean"]["paper"]["pixel_auroc"] == 1.0


def test_own_images_are_imported_and_checked(core):
    for number in range(10):
        save_image(core.folder / f"pictures/good/{number}.png", value=number)
    save_image(core.folder / "pictures/bad/0.png", value=200)
    done = core.pipes(
        "profile list", "profile use quick", "data import shop --images pictures", "check", "data check shop"
    )
    assert [code for code, *_ in done] == [0] * 5, done
    listed, _, _, checked, found = (out for _, out, _ in done)
    assert "quick" in listed
    assert "data set   shop" in checked
    assert found.endswith("no errors, 1 warning\n")
    save_image(core.folder / "pictures/bad/1.png", value=201)
    done = core.pipes("data import shop --images pictures --force", "data check shop", "plan")
    assert [code for code, *_ in done] == [0] * 3, done
    assert "2 anomalous without a mask" in done[1][1]  # the split is made anew
    assert re.search("^shop ", done[2][1], re.MULTILINE)


def test_a_model_predicts(core):
    toy_model_folder(core.folder / "model")
    save_image(core.folder / "photos/1.png", size=50)
    interface = "import invad; print(json.dumps(invad.load('model').predict('photos/1.png').scores.shape))"
    commands = json.dumps([["predict", "model", "photos", "--out", "predictions"]])
    done = run(str(core.python), "-c", COMMANDS + interface, commands, cwd=core.folder).stdout.splitlines()
    assert json.loads(done[-2])[0][0] == 0, done
    assert any((core.folder / "predictions").rglob("*1*.png"))
    assert json.loads(done[-1]) == [1]


NEEDS_EXTRA = {
    "ablate --module ssm": "pipeline",
    "report": "pipeline",
    "runs list": "pipeline",
    "tune": "pipeline",
    "ui": "pipeline",
    "export model --format onnx": "export",
    "serve model": "serve",
}


@pytest.fixture(scope="module")
def without_extras(core, tmp_path_factory) -> dict[str, tuple[int, str, str]]:
    """What the commands say that need an extra."""
    folder = tmp_path_factory.mktemp("extras")
    shutil.copy(REPOSITORY / "params.yaml", folder)
    toy_model_folder(folder / "model")
    return dict(zip(NEEDS_EXTRA, core.pipes(*NEEDS_EXTRA, cwd=folder), strict=True))


@pytest.mark.parametrize(("line", "extra"), NEEDS_EXTRA.items())
def test_a_command_without_its_extra_says_which(without_extras, line, extra):
    code, out, errors = without_extras[line]
    assert (code, out) == (2, "")
    (error,) = errors.splitlines()
    assert re.fullmatch(rf"invad-pipe: error: \w+ is not installed; .*: pip install 'invad\[{extra}\]'", error)
