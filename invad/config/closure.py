"""Which code a result depends on: the import closure of what makes it, as digests that no comment or docstring changes.

The rule, which DVC, checkpoints and studies share: a result depends on the module that makes it, and on every module that this imports,
anywhere in it and again in what it imports. A stage is its function in `invad.pipeline.stages`. `NEUTRAL` lists the modules that are not
followed, each with the reason. The defaults of settings are no part of it: `dvc.yaml` names them as params, and the names of checkpoints
carry the settings themselves.
"""

import ast
import functools
import hashlib
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path

PACKAGE = "invad"
PIPELINE = "invad.pipeline.stages"
STAGES = ("download", "splits", "features", "train", "score", "evaluate", "report", "ablate")
# A module, or a package with all that is in it, that changes no result, and why.
NEUTRAL: Mapping[str, str] = {
    "invad": "the public interface; it imports lazily, and no stage goes through it",
    "invad.config": "checks settings; their values and defaults are params of DVC",
    "invad.errors": "messages",
    "invad.files": "how files are written, not what",
    "invad.pipeline.frame": "the frame around a stage: progress, messages, exit codes",
    "invad.text": "words of messages",
    "invad.tracking": "tells MLflow what is there",
    "invad.training.progress": "the progress bar",
    "invad.workspace": "where files lie",
}
COUNTED = {"invad.config.constants"}  # all the same


def closure(root: str) -> list[Path]:
    """Return the files that a result depends on, sorted.

    `root`: the dotted name of a module, or a stage, whose own function in `invad/pipeline/stages.py` is not among the files. Modules come
    with the files of other kinds in their packages, such as the templates of a page.
    """
    waiting = [root] if root in _modules() else [name for node in _definitions(root) for name in _imported(node)]
    found: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        if name not in found and not _is_neutral(name):
            found[name] = _modules()[name]
            waiting += _imports(found[name])
    paths = set(found.values())
    for folder in {path.parent for path in paths if path.parent != _root()}:
        paths |= _other_files(folder)
    return sorted(paths)


@functools.cache
def code_digest(root: str) -> str:
    """Return the SHA-256 of the code that a result depends on; `root` as for `closure`."""
    return hashlib.sha256(digest_lines(root).encode()).hexdigest()


def stage_imports(stage: str) -> str:
    """Return Python code of all imports that a stage's function makes, at the top of its module and in itself."""
    imports = [node for definition in _definitions(stage) for node in _run(definition)]
    return "\n".join(ast.unparse(node) for node in imports if isinstance(node, ast.Import | ast.ImportFrom))


def digest_lines(root: str) -> str:
    """Return the code that a result depends on as text, a line with digest and name for each file, and first that of a stage's function."""
    digests = {path.relative_to(_root().parent).as_posix(): _digest(path) for path in closure(root)}
    if root not in _modules():
        own = "\n".join(_normal(ast.unparse(node)) for node in _definitions(root))
        digests = {f"{PIPELINE}.{root}": _short(own.encode())} | digests
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def changed_code(root: str, before: str) -> list[str]:
    """Return the names of what has changed, come or gone since `digest_lines` returned `before`, sorted."""
    return sorted({line.partition("  ")[2] for line in set(before.splitlines()) ^ set(digest_lines(root).splitlines())})


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _root() -> Path:
    return Path(__file__).parent.parent


@functools.cache
def _modules() -> dict[str, Path]:
    """Return the files of all modules of the package by their dotted names; a package is its `__init__.py`."""
    paths = {path.relative_to(_root().parent).with_suffix(""): path for path in _root().rglob("*.py")}
    return {".".join(name.parts).removesuffix(".__init__"): path for name, path in paths.items()}


def _other_files(folder: Path) -> set[Path]:
    """Return what is no code in a package and in its folders that are no packages."""
    found = set()
    for path in folder.iterdir():
        if path.is_file() and path.suffix not in (".py", ".pyc") and path.name != "py.typed":
            found.add(path)
        elif path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").exists():
            found |= _other_files(path)
    return found


def _is_neutral(module: str) -> bool:
    packages = _with_packages(module)[1:]  # that of all is neutral alone
    return module not in COUNTED and (module == PACKAGE or any(name in NEUTRAL for name in packages))


def _with_packages(module: str) -> list[str]:
    """`a.b.c` -> `a`, `a.b`, `a.b.c`."""
    return list(accumulate(module.split("."), lambda package, name: f"{package}.{name}"))


@functools.cache
def _definitions(stage: str) -> tuple[ast.stmt, ...]:
    """Return the function of a stage, the imports of its module, and the definitions there that it uses, directly or not."""
    tree = ast.parse(_modules()[PIPELINE].read_text(encoding="utf-8"))
    defined = {name: node for node in tree.body for name in _defined(node)}
    if stage not in defined:
        raise LookupError(f"{PIPELINE} has no stage {stage!r}")
    found, waiting = set(), [stage]
    while waiting:
        if (name := waiting.pop()) in defined and name not in found:
            found.add(name)
            waiting += [node.id for node in ast.walk(defined[name]) if isinstance(node, ast.Name)]
    return tuple(defined[name] for name in sorted(found))


def _defined(node: ast.stmt) -> list[str]:
    """Return the names that a statement at the top of a module defines or imports."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


@functools.cache
def _imports(path: Path) -> frozenset[str]:
    return frozenset(_imported(ast.parse(path.read_text(encoding="utf-8"), str(path))))


def _imported(tree: ast.AST) -> Iterator[str]:
    """Yield the modules of this package that importing and running `tree` imports; what only type checkers read is left out."""
    for node in _run(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:  # importing a.b.c runs a and a.b
            yield from (module for module in _with_packages(name) if module in _modules())


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk `tree` but for the bodies of `if TYPE_CHECKING`."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        skipped = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        waiting += node.orelse if isinstance(node, ast.If) and skipped else ast.iter_child_nodes(node)


@functools.cache
def _digest(path: Path) -> str:
    content = path.read_bytes()
    return _short(_normal(content.decode()).encode() if path.suffix == ".py" else content)


def _normal(source: str) -> str:
    """Return Python code without comments and docstrings, in one layout: what it does, and nothing of what it says."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [each for each in node.body if not _is_text(each)] or [ast.Pass()]
    return ast.unparse(tree)


def _is_text(node: ast.stmt) -> bool:
    """Tell whether a statement is nothing but a text: a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
