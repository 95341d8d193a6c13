"""Every file is written under another name first: no module writes directly but those that are named here, with why."""

import ast
from collections.abc import Iterator

import pytest

from tests.builders.source import FOLDERS, ROOT, sources

WHOLE = {"whole_path", "write_whole", "whole_folder"}
IN_MEMORY = {"BytesIO", "StringIO"}
WRITERS = {
    *("write_text", "write_bytes", "savefig", "save", "savez", "savez_compressed", "to_csv", "tofile", "savetxt"),
    *("dump", "save_weights", "export", "copy2", "copyfile", "copytree", "move", "extractall"),
}
OPENERS = {"open", "File", "ZipFile", "fdopen"}  # which write where a mode says so
DIRECTLY = {
    ("features/extraction/extraction.py", "_seal", "File"): "its caller gives it the path of a whole_path",
    ("features/files/locks.py", "_sign", "write_text"): "who holds a lock is written by the holder alone",
    ("features/engines/mnn_engine.py", "_convert", "write_bytes"): "into a temporary folder",
    ("features/engines/mnn_engine.py", "_native_output_dropped", "open"): "it writes nowhere",
    ("features/schema.py", "create_feature_file", "File"): "its callers give it the path of a whole_path",
    ("pipeline/training/outcome.py", "save_model", "save"): "a function of ours, which writes whole files",
    ("pipeline/training/train_network.py", "train", "save"): "a function of ours, which writes whole files",
}


def called(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def opens_for_writing(call: ast.Call) -> bool:
    texts = [value.value for value in [*call.args, *(word.value for word in call.keywords)] if _is_text(value)]
    return any(set(text) <= set("rwaxbt+") and set(text) & set("wax+") for text in texts)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def names_in(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def safe_names(function: ast.AST) -> set[str]:
    """The names in a function that a temporary path, an open whole file, or a buffer in memory has."""
    safe: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.withitem) and isinstance(node.optional_vars, ast.Name):
            made = node.context_expr
            if isinstance(made, ast.Call) and (called(made) in WHOLE or names_in(made) & safe):
                safe.add(node.optional_vars.id)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            in_memory = isinstance(node.value, ast.Call) and called(node.value) in IN_MEMORY
            if in_memory or names_in(node.value) & safe:
                safe.add(node.targets[0].id)
    return safe


def direct_writes(source: str) -> Iterator[tuple[str, str]]:
    """Yield (function, call) for each call that writes a file under its own name."""
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef):
            continue
        safe = safe_names(function)
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            writes = called(call) in WRITERS or (called(call) in OPENERS and opens_for_writing(call))
            if writes and not names_in(call) & safe:
                yield function.name, called(call)


def test_no_module_writes_a_file_under_its_own_name() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), *write)
        for package in FOLDERS
        for path in sources(package)
        if path.name != "atomic.py"
        for write in direct_writes(path.read_text("utf-8"))
    }
    assert found == set(DIRECTLY)


@pytest.mark.parametrize(
    "body",
    [
        "path.write_text('a')",
        "open(path, 'w').write('a')",
        "with path.open('ab') as file: pass",
        "np.savez(path, a=1)",
        "figure.savefig(path)",
        "frame.to_csv(path)",
        "h5py.File(path, 'r+')",
        "zipfile.ZipFile(path, mode='a')",
        "shutil.move(a, path)",
    ],
)
def test_a_direct_write_is_found(body: str) -> None:
    assert len(list(direct_writes(f"def f(path):\n    {body}\n"))) == 1


@pytest.mark.parametrize(
    "body",
    [
        "path.read_text('utf-8')",
        "with path.open('rb') as file: pass",
        "with whole_path(path) as temporary: temporary.write_bytes(b'')",
        "with write_whole(path, 'wb') as file: np.savez(file, a=1)",
        "with whole_folder(path) as temporary: extra = temporary / 'a'; (extra / 'b').write_text('c')",
        "buffer = io.BytesIO(); image.save(buffer, 'PNG')",
    ],
)
def test_what_is_whole_or_in_memory_passes(body: str) -> None:
    assert not list(direct_writes(f"def f(path):\n    {body}\n"))
