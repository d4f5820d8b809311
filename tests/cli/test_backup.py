"""`stoker backup` and `stoker restore` as a person types them, beside a control that runs."""

from pathlib import Path

from stoker.cli.exits import Exit
from tests.cli.conftest import Run
from tests.cli.run import stoker_here


def test_a_running_platform_is_backed_up_verified_and_restored_elsewhere(run: Run, home: Path, tmp_path: Path) -> None:
    path, key, new = tmp_path / "b.stoker", tmp_path / "key", tmp_path / "new"
    key.write_text("0" * 64)
    secret = ("--key-file", str(key))
    done = run("backup", str(path), *secret)
    assert done.returncode == 0, done.stderr
    assert "b.stoker written and verified: " in done.stdout
    made_s = (home / "backed-up").stat().st_mtime  # what `stoker boundary` says of it
    assert run("backup", str(path), *secret).returncode == Exit.REFUSED
    assert run("backup", str(path), "--overwrite", *secret).returncode == 0
    assert (home / "backed-up").stat().st_mtime > made_s
    assert "good: " in run("backup", str(path), "--verify", *secret).stdout
    assert "end it before: stoker down" in run("restore", str(path), "--replace", *secret).stderr
    done = stoker_here("restore", str(path), *secret, home=new)
    assert done.returncode == 0, done.stderr
    assert "start it with: stoker up" in done.stdout
    assert (new / "platform.key").stat().st_mode & 0o777 == 0o600
    assert "not empty" in stoker_here("restore", str(path), *secret, home=new).stderr
    done = stoker_here("restore", str(path), "--replace", *secret, home=new)
    assert "what was there is in " in done.stdout
    assert len(list(tmp_path.glob("new.before-*"))) == 1
    key.write_text("1" * 64)
    done = run("backup", str(path), "--verify", *secret)
    assert (done.returncode, "another passphrase or key" in done.stderr) == (Exit.REFUSED, True)
    for where in ("verify", "written"):
        done = run("backup", str(tmp_path / "no" / "b.stoker"), *(["--verify"] if where == "verify" else []), *secret)
        assert (done.returncode, "cannot be " in done.stderr) == (Exit.REFUSED, True), done.stderr
        assert "No such file or directory" in done.stderr
    key.write_text("short")
    assert run("backup", str(path), "--verify", *secret).returncode == Exit.REFUSED


def test_where_nobody_can_type_a_passphrase_it_is_said_how_else_to_give_one(run: Run, tmp_path: Path) -> None:
    (tmp_path / "b.stoker").write_bytes(b"")
    for asked in (("backup", str(tmp_path / "c.stoker")), ("restore", str(tmp_path / "b.stoker"))):
        done = run(*asked)
        assert done.returncode == Exit.REFUSED
        assert "name a --key-file, or set STOKER_BACKUP_PASSPHRASE" in done.stderr
