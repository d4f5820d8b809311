"""What a command of an endpoint needs to be read, found from the command alone."""

import sys
from pathlib import Path

from stoker.confine import places


def test_a_program_brings_its_prefix_and_its_interpreters_and_its_arguments_their_paths(tmp_path: Path) -> None:
    own, base = tmp_path / "own", tmp_path / "base"
    for folder in (own / "bin", base / "bin", tmp_path / "weights"):
        folder.mkdir(parents=True)
    (base / "bin" / "python3").touch()
    (own / "bin" / "python").symlink_to(base / "bin" / "python3")
    program = own / "bin" / "serve"
    program.write_text(f"#!{own}/bin/python\n")
    program.chmod(0o755)
    words = ["serve", f"--model={tmp_path}/weights", str(tmp_path / "missing"), "--port", "80", "/"]
    found = set(places.of_command(words, {"PATH": f"/nowhere:{own}/bin"}))
    assert found == {str(program), str(own), str(base), str(tmp_path / "weights")}


def test_a_command_that_is_nowhere_needs_nothing() -> None:
    assert list(places.of_command(["no-such-program", "x"], {"PATH": "/nowhere"})) == []


def test_python_itself_can_be_read_and_nobodys_passwords() -> None:
    found = places.readable({"LD_LIBRARY_PATH": "/opt/cuda/lib:relative"})
    assert {sys.prefix, sys.base_prefix, "/opt/cuda/lib"} <= set(found)
    assert "relative" not in found
    assert not {"/", "/etc", "/etc/shadow", "/root", "/home", "/var", "/tmp"} & set(found)
