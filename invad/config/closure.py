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

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def closure(root: str) -> list[Path]:
    """Return the files that a result depends on, sorted.

    `root`: the dotted name of a module, or a stage, whose own function in `invad/pipeline/stages.py` is not among the files. Modules come
    with the files of other kinds in their packages, such as the templates of a page.
    """
    waiting = [root] if root in _modules() else [name for node in _definitions(root) for name in _imported(node)]
    found: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        if name in found or _is_neutral(name):
            continue
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
        source = _modules()[PIPELINE].read_text(encoding="utf-8")
        parts = [_normal(ast.get_source_segment(source, node) or "") for node in _definitions(root)]
        digests = {f"{PIPELINE}.{root}": _short("\n".join(parts).encode())} | digests
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
    paths = _root().rglob("*.py")
    return {".".join((PACKAGE, *_parts(path))): path for path in paths}


def _parts(path: Path) -> tuple[str, ...]:
    parts = path.relative_to(_root()).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


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
    if module in COUNTED:
        return False
    parts = module.split(".")
    return module in NEUTRAL or any(".".join(parts[:end]) in NEUTRAL for end in range(2, len(parts)))


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@functools.cache
def _definitions(stage: str) -> tuple[ast.stmt, ...]:
    """Return the function of a stage, the imports of its module, and the definitions there that it uses, directly or not."""
    tree = _tree(_modules()[PIPELINE])
    defined = {name: node for node in tree.body for name in _defined(node)}
    if stage not in defined:
        raise LookupError(f"{PIPELINE} has no stage {stage!r}")
    found: dict[str, ast.stmt] = {}
    waiting = [stage]
    while waiting:
        name = waiting.pop()
        if name in found or name not in defined:
            continue
        found[name] = defined[name]
        waiting += [node.id for node in ast.walk(defined[name]) if isinstance(node, ast.Name)]
    return tuple(found[name] for name in sorted(found))


def _defined(node: ast.stmt) -> list[str]:
    """Return the names that a statement at the top of a module defines or imports."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    return []


@functools.cache
def _imports(path: Path) -> frozenset[str]:
    return frozenset(_imported(_tree(path)))


def _imported(tree: ast.AST) -> Iterator[str]:
    """Yield the modules of this package that importing and running `tree` imports; what only type checkers read is left out."""
    for node in _run(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            for end in range(1, len(parts) + 1):  # importing a.b.c runs a and a.b
                if (module := ".".join(parts[:end])) in _modules():
                    yield module


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk `tree` but for the bodies of `if TYPE_CHECKING`."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


@functools.cache
def _digest(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".py":
        content = _normal(content.decode()).encode()
    return _short(content)


def _normal(source: str) -> str:
    """Return Python code without comments, docstrings and empty lines: what is left of it when it says nothing but what it does."""
    tree = ast.parse(source)
    lines = source.encode().split(b"\n")
    dropped: set[int] = set()
    texts: dict[int, list[tuple[int, int]]] = {}  # row -> the columns of its strings
    for node in ast.walk(tree):
        if isinstance(node, Documented) and _has_docstring(node):
            dropped.update(range(node.body[0].lineno - 1, node.body[0].end_lineno or 0))
        elif isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
        ):
            for row in range(node.lineno - 1, node.end_lineno or 0):
                start = node.col_offset if row == node.lineno - 1 else 0
                end = node.end_col_offset if row == (node.end_lineno or 0) - 1 else len(lines[row])
                texts.setdefault(row, []).append((start, end or 0))
    kept = [_without_comment(line, texts.get(row, [])) for row, line in enumerate(lines) if row not in dropped]
    return b"\n".join(line.rstrip() for line in kept if line.strip()).decode()


def _has_docstring(node: Documented) -> bool:
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and first.lineno == getattr(node, "lineno", 0):
        return False  # on the line of its definition, which has to stay
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _without_comment(line: bytes, texts: list[tuple[int, int]]) -> bytes:
    """Return a line up to the first `#` that stands in none of the strings, whose columns are `texts`."""
    at = line.find(b"#")
    while at >= 0:
        if not any(start <= at < end for start, end in texts):
            return line[:at]
        at = line.find(b"#", at + 1)
    return line
