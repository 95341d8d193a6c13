"""The product's source files: which there are, and what each imports."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("features", "models", "pipeline", "thaw")


def sources(folder: str) -> list[Path]:
    """Return every Python file below a folder of the checkout, its sub-folders included."""
    found = sorted((ROOT / folder).rglob("*.py"))
    if not found:
        raise FileNotFoundError(f"{folder} holds no Python file: a test of all files would check none")
    return found


def module_of(path: Path) -> str:
    """Return the name that Python knows a source file by: `thaw.features.store`, `benchmarks.runner`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] in ("thaw", "benchmarks") else ("thaw", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imported(path: Path) -> frozenset[str]:
    """Return every module that a file imports, at any depth in it, as `module` and as `module.name`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def within(names: frozenset[str], *packages: str) -> set[str]:
    """Return the names that lie in one of the packages."""
    return {name for name in names if any(name == p or name.startswith(f"{p}.") for p in packages)}


def arrows() -> dict[str, set[str]]:
    """Return module -> the modules of the product and the benchmarks that it imports, for each of their files."""
    files = {module_of(path): path for folder in (*FOLDERS, "benchmarks") for path in sources(folder)}
    return {
        module: {name for name in imported(path) if name in files and name != module} for module, path in files.items()
    }
