"""`stoker audit` against a real control, and without one."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from stoker.cli.exits import Exit
from tests.cli.conftest import Run

PROJECT = "apiVersion: stoker/v1\nkind: Project\nmetadata: {{name: shop}}\nspec: {{description: {}}}\n"


@pytest.fixture
def changed(run: Run, tmp_path: Path) -> None:
    for word in ("first", "second"):
        (tmp_path / "p.yaml").write_text(PROJECT.format(word))
        done = run("apply", "-f", str(tmp_path / "p.yaml"))
        assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("changed")
def test_rows_are_listed_and_shown_with_a_diff(run: Run) -> None:
    listed = json.loads(run("audit", "list", "--resource", "project shop", "-o", "json").stdout)["items"]
    assert "~project shop" in run("audit", "list", "--action", "/apply", "-n", "1", "--since", "1h").stdout
    assert run("audit", "list", "--until", "1h").stdout.strip() == "no row is like that"
    shown = run("audit", "show", str(listed[0]["event"]["sequence"])).stdout
    assert '- resource.spec.description: "first"' in shown
    assert '+ resource.spec.description: "second"' in shown
    assert run("audit", "show", "999999").returncode == Exit.NOT_FOUND
    assert run("audit", "list", "--since", "soon").returncode == Exit.REFUSED


@pytest.mark.usefixtures("changed")
def test_an_export_and_a_copy_are_verified_without_a_platform_and_tell_what_was_changed(
    run: Run, home: Path, tmp_path: Path
) -> None:
    file, key, copy = tmp_path / "a.jsonl", tmp_path / "platform.pub", tmp_path / "copy.db"
    assert run("audit", "export", "--out", str(file)).returncode == 0
    key.write_text(run("release", "key").stdout)
    with closing(sqlite3.connect(home / "state.db")) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    shutil.copy(file.with_name("a.jsonl.checkpoints"), tmp_path / "kept")
    for good in (
        run("audit", "verify"),
        run("audit", "verify", "--copy", str(tmp_path / "kept")),
        run("audit", "verify", str(file), "--key", str(key)),
        run("audit", "verify", str(copy)),
    ):
        assert good.returncode == 0, good.stderr
        assert good.stdout.startswith("whole: rows 1 to ")
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:1], lines[1].replace("first", "other"), *lines[2:]]))
    with closing(sqlite3.connect(copy)) as database, database:
        database.execute("DELETE FROM audit WHERE sequence = 2")
    bent = run("audit", "verify", str(file), "--key", str(key))
    assert (bent.returncode, "row 2 was changed" in bent.stderr) == (Exit.REFUSED, True)
    bent = run("audit", "verify", str(copy), "--checkpoints", str(tmp_path / "kept"))
    assert (bent.returncode, "row 2 is missing" in bent.stdout) == (Exit.REFUSED, True)
    assert run("audit", "verify", "--key", str(key)).returncode == Exit.REFUSED
    (tmp_path / "none").mkdir()
    shutil.copy(file, tmp_path / "none" / "b.jsonl")
    assert "no file of checkpoints" in run("audit", "verify", str(tmp_path / "none" / "b.jsonl")).stderr


@pytest.mark.usefixtures("changed")
def test_a_hold_is_set_listed_and_released(run: Run) -> None:
    assert run("audit", "hold", "shop", "--because", "case 27").returncode == 0
    assert "case 27" in run("audit", "holds").stdout
    assert run("audit", "hold", "--all", "--because", "x").returncode == 0
    assert run("audit", "release", "--all").returncode == 0
    assert run("audit", "release", "shop").returncode == 0
    assert run("audit", "release", "shop").returncode == Exit.NOT_FOUND
    assert run("audit", "hold", "nobody", "--because", "x").returncode == Exit.NOT_FOUND
    assert run("audit", "hold", "--because", "x").returncode == Exit.USAGE


@pytest.mark.usefixtures("changed")
def test_an_owner_lists_and_shows_their_project_and_is_told_how_when_they_ask_for_all(run: Run) -> None:
    made = run("keys", "create", "own", "-p", "shop", "--role", "owner", "-q")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    whole = run("--key", key, "audit", "list")
    assert (whole.returncode, "stoker audit -p PROJECT" in whole.stderr) == (Exit.NOT_ALLOWED, True)
    listed = run("--key", key, "audit", "-p", "shop")
    assert listed.returncode == 0, listed.stderr
    assert "+key shop/" in listed.stdout
    newest = run("--key", key, "audit", "list", "-p", "shop", "-n", "1")
    assert "older ones: stoker audit list -p shop --before " in newest.stdout
    before = newest.stdout.split()[-1]
    rows = json.loads(run("--key", key, "audit", "list", "-p", "shop", "--before", before, "-o", "json").stdout)[
        "items"
    ]
    assert rows
    shown = run("--key", key, "audit", "show", rows[0]["row"], "-p", "shop").stdout
    assert "outside: by no right in this project" in shown
    assert '+ resource.spec.description: "second"' in shown
    assert rows[0]["receipt"] in shown
    missing = run("audit", "-p", "shopp")
    assert (missing.returncode, "there is no project 'shopp'" in missing.stderr) == (Exit.NOT_FOUND, True)
    hidden = run("--key", key, "audit", "-p", "shopp")
    assert (hidden.returncode, "no project" in hidden.stderr) == (Exit.NOT_FOUND, False)
