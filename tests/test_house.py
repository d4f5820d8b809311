"""The house rules that a machine can hold: short files, short functions, a core that touches nothing."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "stoker"
FILES = sorted(SOURCE.rglob("*.py"))
LINES_MAX = 400
FUNCTION_LINES_MAX = 60
# What would let the outside world into a decision.
IMPURE_NAMES = {"open", "print", "input", "exec", "eval", "globals"}
IMPURE_MODULES = {
    "asyncio",
    "time",
    "random",
    "os",
    "sys",
    "io",
    "logging",
    "pathlib",
    "socket",
    "threading",
    "datetime",
}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_and_functions_stay_short_and_files_say_what_they_answer(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LINES_MAX, f"{path} is longer than {LINES_MAX} lines: split it by responsibility"
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f"{path} does not say what it answers"
    for function in functions(tree):
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        assert length <= FUNCTION_LINES_MAX, f"{path}:{function.lineno} {function.name} has {length} lines"


@pytest.mark.parametrize("path", sorted((SOURCE / "core").glob("*.py")), ids=lambda path: path.name)
def test_the_core_has_no_clock_no_random_no_io(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & IMPURE_MODULES, f"{path}:{node.lineno}"
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in IMPURE_MODULES, f"{path}:{node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in IMPURE_NAMES, f"{path}:{node.lineno}"
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await), f"{path} awaits"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_stand_at_the_top_but_where_laziness_is_the_point(path: Path) -> None:
    lazy = ("app/", "cli/", "runtime/engines/registry.py", "registry/signatures.py")
    if str(path.relative_to(SOURCE)).startswith(lazy):
        return
    for function in functions(ast.parse(path.read_text())):
        for node in ast.walk(function):
            assert not isinstance(node, ast.Import | ast.ImportFrom), f"{path}:{node.lineno} imports inside a function"
