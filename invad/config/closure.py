"""Which code a result depends on: the import closure of what makes it, as digests that no comment or docstring changes.

The rule, which DVC, checkpoints and studies share: a result depends on the module that makes it, and on every module that this imports,
anywhere in it and again in what it imports. A stage is its function in `invad.pipeline.stages`; of the methods it depends on those that
are given as further roots. `NEUTRAL` lists the modules that are not followed, each with the reason. Settings are no part of it: their
values stand beside the digests (`invad.pipeline.dependencies`) and in the names of checkpoints.
"""

import ast
import functools
import hashlib
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path

PIPELINE = "invad.pipeline.stages"
STAGES = ("download", "splits", "features", "train", "score", "evaluate", "report", "ablate", "supervise")
# A module, or a package with all that is in it, that changes no result, and why; of the first two only what they import themselves.
NEUTRAL: Mapping[str, str] = {
    "invad": "the public interface; it imports lazily, and no stage goes through it",
    "invad.methods": "the table of the methods; that which is run is a root of its own",
    "invad.config": "checks settings; their values, defaults included, stand beside the digests of code",
    "invad.disk": "whether there is room, and messages",
    "invad.errors": "messages",
    "invad.files": "how files are written, not what",
    "invad.pipeline.frame": "the frame around a stage: progress, messages, exit codes",
    "invad.text": "words of messages",
    "invad.pipeline.trainings": "of benchmarks with several trainings; for them it is a root of its own",
    "invad.tracking": "tells MLflow what is there",
    "invad.training.progress": "the progress bar",
    "invad.workspace": "where files lie",
}
_ALONE = ("invad", "invad.methods")
COUNTED = {"invad.config.constants"}  # all the same


class _Run(ast.NodeTransformer):
    """Leaves of code what runs: neither docstrings nor what only type checkers read."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        return None if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str) else node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)


def closure(*roots: str) -> list[Path]:
    """Return the files that a result depends on, sorted, templates among them; `roots`: dotted names of modules, or stages."""
    waiting = [name for root in roots for name in ([root] if root in _modules() else _imports(*_definitions(root)))]
    found: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        if name not in found and (name in roots or not _is_neutral(name)):
            found[name] = _modules()[name]
            waiting += _imports(_code(found[name]))
    paths = set(found.values())
    for folder in {path.parent for name, path in found.items() if name not in COUNTED} - {_root()}:
        others = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc"))
        paths |= {path for path in others if _package(path) == folder}
    return sorted(paths)


def code_digest(*roots: str) -> str:
    """Return the SHA-256 of the code that a result depends on; `roots` as for `closure`."""
    return hashlib.sha256(digest_lines(*roots).encode()).hexdigest()


def stage_imports(stage: str) -> str:
    """Return Python code of all imports that a stage's function makes, at the top of its module and in itself."""
    imports = [node for definition in _definitions(stage) for node in ast.walk(definition)]
    return "\n".join(ast.unparse(node) for node in imports if isinstance(node, ast.Import | ast.ImportFrom))


@functools.cache
def digest_lines(*roots: str) -> str:
    """Return the code that a result depends on as text, a line with digest and name for each file, and first that of a stage's function."""
    code = {f"{PIPELINE}.{root}": _definitions(root) for root in roots if root not in _modules()}
    digests = {name: _short("\n".join(map(ast.unparse, nodes)).encode()) for name, nodes in code.items()}
    digests |= {path.relative_to(_root().parent).as_posix(): _digest(path) for path in closure(*roots)}
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _root() -> Path:
    return Path(__file__).parent.parent


@functools.cache
def _modules() -> dict[str, Path]:
    """Return the files of all modules of the package by their dotted names; a package is its `__init__.py`."""
    paths = {path.relative_to(_root().parent).with_suffix(""): path for path in _root().rglob("*.py")}
    return {".".join(name.parts).removesuffix(".__init__"): path for name, path in paths.items()}


def _package(path: Path) -> Path:
    return next(folder for folder in path.parents if (folder / "__init__.py").exists())


def _is_neutral(module: str) -> bool:
    return module in NEUTRAL or bool(set(_with_packages(module)) & NEUTRAL.keys() - _ALONE and module not in COUNTED)


def _with_packages(module: str) -> list[str]:
    """`a.b.c` -> `a`, `a.b`, `a.b.c`."""
    return list(accumulate(module.split("."), lambda package, name: f"{package}.{name}"))


@functools.cache
def _definitions(stage: str) -> list[ast.AST]:
    """Return the imports of the module of the stages, the function of one, and what it uses there, directly or not."""
    defined: dict[str, ast.AST] = {}
    imports: list[ast.AST] = []
    for node in _code(_modules()[PIPELINE]).body:
        if isinstance(node, ast.FunctionDef):
            defined[node.name] = node
        elif isinstance(node, ast.Assign):
            defined |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
        else:
            imports.append(node)
    if stage not in defined:
        raise LookupError(f"{PIPELINE} has no stage {stage!r}")
    found, waiting = set(), [stage]
    while waiting:
        if (name := waiting.pop()) in defined and name not in found:
            found.add(name)
            waiting += [node.id for node in ast.walk(defined[name]) if isinstance(node, ast.Name)]
    return [*imports, *(defined[name] for name in sorted(found))]


@functools.cache
def _imports(*code: ast.AST) -> list[str]:
    """Return the modules of this package that importing and running some code imports."""
    names: list[str] = []
    for node in (node for part in code for node in ast.walk(part)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    modules = (module for name in names for module in _with_packages(name))  # importing a.b.c runs a and a.b
    return [module for module in dict.fromkeys(modules) if module in _modules()]


@functools.cache
def _code(path: Path) -> ast.Module:
    return _Run().visit(ast.parse(path.read_text(encoding="utf-8"), str(path)))


@functools.cache
def _digest(path: Path) -> str:
    return _short(ast.unparse(_code(path)).encode() if path.suffix == ".py" else path.read_bytes())
