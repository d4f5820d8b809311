"""What goes wrong is one clear line on standard error and a stable exit code; never a traceback."""

import re
import socket
from pathlib import Path

import pytest

from stoker.cli import exits
from stoker.cli.exits import Exit, exit_code
from stoker.types.errors import all_codes
from tests.cli.run import stoker, stoker_here
from tests.client.peer import answering, reply


def failed(*arguments: str, stdin: str = "", **environment: str) -> tuple[int, str]:
    done = stoker_here(*arguments, stdin=stdin, **environment)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout == "", done.stdout
    return done.returncode, done.stderr


def test_no_platform_says_how_to_start_one_and_where_it_looked(tmp_path: Path) -> None:
    code, words = failed("status", STOKER_HOME=str(tmp_path))
    assert code == Exit.NOT_REACHABLE
    assert str(tmp_path) in words
    assert "stoker up" in words


def test_a_platform_that_does_not_answer_is_not_reachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{taken.getsockname()[1]}"
        code, words = failed("get", "endpoints", STOKER_API=base, STOKER_KEY="stk_x")
    assert code == Exit.NOT_REACHABLE
    assert base in words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["deploy"], "Missing argument 'NAME'"),
        (["deploy", "Not_A_Name", "--model", "x"], "is not a name"),
        (["deploy", "x", "--option", "novalue"], "is not KEY=VALUE"),
        (["get", "things"], "is not a kind"),
        (["apply"], "Missing option"),
        (["predict", "x", "--text", "a", "--json", "{}"], "one of --input, --json or --text"),
        (["keys", "create", "x", "--expires", "soon"], "is not a time"),
        (["keys", "create", "x", "--expires", "30"], "30 what? Write 30d for days"),
        (["nodes", "token", "x", "--expires", "3600"], "3600 what?"),
        (["audit", "show", "5-0123456789abcdef"], "goes with -p PROJECT"),
        (["audit", "-p", "shop", "verify"], "-p goes with list and show"),
        (["completion", "tcsh"], "is not one of"),
        (["logs"], "name an endpoint"),
        (["get", "models", "-o", "manifest"], "-o manifest is for endpoints"),
    ],
)
def test_wrong_usage_says_what_is_wrong(arguments: list[str], words: str, tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text('{"api":"http://127.0.0.1:1","gateway":"","key":"k"}')
    code, said = failed(*arguments, STOKER_HOME=str(tmp_path))
    assert code == Exit.USAGE, said
    assert words in said
    assert "--help" in said


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text('{"api":"http://127.0.0.1:1","gateway":"","key":"k"}')
    for arguments in (["apply", "-f", "gone.yaml"], ["push", "x", str(tmp_path / "gone.onnx")]):
        code, words = failed(*arguments, STOKER_HOME=str(tmp_path))
        assert code == Exit.NOT_FOUND, words
        assert "there is no file" in words


def test_damaged_credentials_are_named(tmp_path: Path) -> None:
    (tmp_path / "credentials.json").write_text("{")
    code, words = failed("status", STOKER_HOME=str(tmp_path))
    assert code == Exit.REFUSED
    assert "credentials.json" in words


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (401, "unauthenticated", Exit.NOT_ALLOWED),
        (403, "forbidden", Exit.NOT_ALLOWED),
        (404, "not_found", Exit.NOT_FOUND),
        (409, "conflict", Exit.REFUSED),
        (422, "refused_artifact", Exit.REFUSED),
        (429, "busy", Exit.BUSY),
        (503, "unavailable", Exit.BUSY),
        (504, "deadline_exceeded", Exit.TIMED_OUT),
        (500, "internal", Exit.FAILED),
    ],
)
def test_what_control_answers_becomes_the_exit_code(status: int, code: str, expected: Exit) -> None:
    body = f'{{"error":{{"code":"{code}","message":"words of control"}}}}'.encode()
    with answering(reply(status, body)) as peer:
        found, words = failed("get", "endpoints", STOKER_API=peer.base, STOKER_KEY="stk_x")
    assert found == expected
    assert words.startswith("error: words of control\n")


def test_errors_of_manifests_name_file_line_and_field_of_every_source(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("one: 1\ntwo: 2")
    (tmp_path / "b.yaml").write_text("three: 3\nfour: 4\n")
    details = '[{"line":2,"field":"spec.x","message":"wrong"},{"line":5,"field":"","message":"worse"}]'
    body = f'{{"error":{{"code":"invalid_input","message":"m","details":{details}}}}}'.encode()
    with answering(reply(400, body)) as peer:
        code, words = failed("apply", "-f", str(tmp_path), STOKER_API=peer.base, STOKER_KEY="k")
    assert code == Exit.REFUSED
    assert f"{tmp_path}/a.yaml:2: spec.x: wrong" in words
    assert f"{tmp_path}/b.yaml:2: worse" in words
    assert peer.received[0].endswith(b"one: 1\ntwo: 2\n---\nthree: 3\nfour: 4\n")


def test_a_service_that_is_no_stoker_is_told_apart() -> None:
    with answering(reply(200, b"<html></html>")) as peer:
        code, words = failed("get", "endpoints", STOKER_API=peer.base, STOKER_KEY="stk_x")
    assert code == Exit.NOT_REACHABLE
    assert "not a stoker" in words


def test_every_error_of_the_tree_has_an_exit_code_in_the_documented_table() -> None:
    documented = {int(number) for number in re.findall(r"^(\d+)\s", exits.__doc__ or "", re.MULTILINE)}
    assert documented == {int(code) for code in Exit}
    for kind in all_codes().values():
        assert int(exit_code(kind("x"))) in documented


def test_nothing_is_coloured_outside_a_terminal(tmp_path: Path) -> None:
    done = stoker("status", home=tmp_path)
    assert "Traceback" not in done.stderr
    assert (done.returncode, "\x1b" in done.stderr, "stoker up" in done.stderr) == (Exit.NOT_REACHABLE, False, True)
