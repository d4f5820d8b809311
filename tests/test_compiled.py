"""What a module must be so that it can be compiled (hatch_build.py): forms that would break only in that build.

`make compiled` builds it and runs the gateway's tests on it; this says in a second what a change may not do.
"""

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from stoker.telemetry.build import LIBRARY

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "stoker"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMPILED = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["compiled"]

LOOKED_AT = {
    ("gateway/http/known", "at:end"),  # what was found lies behind where it was looked for
    ("protocol/link/client", "at:at + frames.INLINE_MAX"),
}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def classes(path: Path) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(parsed(path)) if isinstance(node, ast.ClassDef))


def within(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what is in `node`, but for functions made there."""
    yield node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        for each in ast.iter_child_nodes(node):
            yield from within(each)


def file_of(module: str) -> Path:
    return SOURCE / f"{module}.py"


def names(path: Path) -> dict[str, str]:
    """Return what each name of a module stands for: `module.name` for what was imported or is made here."""
    here = str(path.relative_to(SOURCE.parent).with_suffix("")).replace("/", ".")
    found = {each.name: f"{here}.{each.name}" for each in classes(path)}
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
        elif isinstance(node, ast.Import):
            found |= {each.asname or each.name: each.name for each in node.names}
    return found


def bases(path: Path) -> Iterator[tuple[ast.ClassDef, str]]:
    """Yield each class with the full name of each of its bases."""
    known = names(path)
    for each in classes(path):
        for base in each.bases:
            text = ast.unparse(base).partition("[")[0]
            first, _, rest = text.partition(".")
            yield each, ".".join(filter(None, (known.get(first, first), rest)))


@pytest.mark.parametrize("module", COMPILED)
def test_a_compiled_module_has_no_form_that_the_compiler_takes_for_another(module: str) -> None:
    path = file_of(module)
    for each, base in bases(path):
        assert not base.startswith("msgspec."), (
            f"{path}:{each.lineno} {each.name}: msgspec looks at slots it made itself"
        )
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Attribute):
            where = f"{path}:{node.lineno}"
            assert node.attr not in ("__slots__", "__dict__"), f"{where}: a compiled class has no {node.attr}"
            assert not node.attr.startswith(("cr_", "gi_")), f"{where}: a compiled coroutine has no {node.attr}"


@pytest.mark.parametrize("module", COMPILED)
def test_nothing_waits_while_it_handles_an_exception(module: str) -> None:
    """A compiled coroutine that waits leaves its exception in place for all others: `raise` raises somebody else's."""
    for node in ast.walk(parsed(file_of(module))):
        if isinstance(node, ast.Try):
            for inside in (*node.handlers, *node.finalbody):
                assert not any(isinstance(each, ast.Await) for each in within(inside)), f"{module}:{inside.lineno}"


@pytest.mark.parametrize("module", COMPILED)
def test_no_slice_may_end_before_it_begins(module: str) -> None:
    """Of bytes that is a SystemError where it is compiled, and empty else; so each with two ends is looked at."""
    for node in ast.walk(parsed(file_of(module))):
        if isinstance(node, ast.Slice) and node.lower is not None and node.upper is not None:
            text = ast.unparse(node)
            assert (module, text) in LOOKED_AT, f"{module}:{node.lineno} [{text}]"


@pytest.mark.parametrize("module", COMPILED)
def test_what_a_compiled_class_deletes_it_says_so(module: str) -> None:
    for each in classes(file_of(module)):
        told = [
            ast.literal_eval(node.value)
            for node in each.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__deletable__"
        ]
        for node in ast.walk(each):
            if isinstance(node, ast.Delete):
                for target in node.targets:
                    if isinstance(target, ast.Attribute):
                        assert target.attr in (told[0] if told else ()), f"{module}:{node.lineno} {target.attr}"


def test_nothing_interpreted_inherits_from_what_is_compiled() -> None:
    compiled = {
        f"stoker.{module}.{each.name}".replace("/", ".") for module in COMPILED for each in classes(file_of(module))
    }
    protocols = {
        f"stoker.{module}.{each.name}".replace("/", ".")
        for module in COMPILED
        for each, base in bases(file_of(module))
        if base in ("typing.Protocol", "asyncio.Protocol", "Exception")
    }
    # Only what imports one of them can inherit from it, and reading every file takes seconds.
    parents = tuple(f"from stoker.{module.replace('/', '.')} import" for module in COMPILED)
    others = [
        path
        for path in SOURCE.rglob("*.py")
        if str(path.relative_to(SOURCE))[:-3] not in COMPILED and any(each in path.read_text() for each in parents)
    ]
    wrong = [
        f"{path}:{each.lineno} {each.name}"
        for path in others
        for each, base in bases(path)
        if base in compiled - protocols
    ]
    assert not wrong, f"compile these too, or make no class of them: {wrong}"


def test_no_compiled_instance_is_copied() -> None:
    """`copy.copy` makes an object without arguments, which a compiled class with arguments does not let it."""
    for path in (SOURCE / "gateway").rglob("*.py"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("copy.copy", "copy.deepcopy"):
                assert ast.unparse(node.args[0]) == "flight.problem", f"{path}:{node.lineno}"


def test_no_test_of_the_gateway_puts_something_else_into_a_compiled_module() -> None:
    """Its constants are inside of what was compiled, and its functions call each other without looking them up."""
    compiled = {f"stoker.{module}".replace("/", ".") for module in COMPILED}
    for path in (ROOT / "tests" / "gateway").glob("*.py"):
        known = {
            each.asname or each.name: f"{node.module}.{each.name}"
            for node in ast.walk(parsed(path))
            if isinstance(node, ast.ImportFrom)
            for each in node.names
        }
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "monkeypatch.setattr":
                assert known.get(ast.unparse(node.args[0]), "") not in compiled, f"{path}:{node.lineno}"


def test_the_library_that_a_process_looks_for_is_the_one_that_is_built() -> None:
    assert f'GROUP = "{LIBRARY.removesuffix("__mypyc")}"' in (ROOT / "hatch_build.py").read_text()


def test_the_compiler_is_the_checker() -> None:
    """The types that compiled code relies on are those that `make test` checks."""
    wanted = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("mypy==")]
    assert f'"{wanted[0].replace("mypy", "mypy[mypyc]", 1)}"' in (ROOT / "hatch_build.py").read_text()
