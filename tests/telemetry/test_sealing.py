"""Keys of samples: each project its own, rotated without losing a sample, destroyed for good, whole after any kill."""

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.telemetry import segments
from stoker.telemetry.sealing import MASTER, OF_PROJECT, OLDER_MAX, KeyRing, ProjectKeys, Unreadable
from stoker.telemetry.segments import Writer

NOON_S = 1_764_331_200.0
# Makes keys for a project, and replaces all of them, as fast as it can; says so once it has begun.
ROTATES = """
import sys
from pathlib import Path
from stoker.telemetry.sealing import KeyRing
ring, number = KeyRing(Path(sys.argv[1])), 0
while True:
    ring.project(f"p{number % 5}")
    ring.rotate(f"p{number % 5}")
    ring.rotate_master()
    if number == 0:
        print("began", flush=True)
    number += 1
"""


class Shelf:
    """Samples of some projects, and what was written for each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ring = KeyRing(folder)
        self.writers: dict[str, Writer] = {}
        self.written: dict[str, list[bytes]] = {}

    def write(self, project: str, ring: KeyRing | None = None) -> None:
        kept = self.written.setdefault(project, [])
        record = f"{project} {len(kept)}".encode()
        writer = self.writers.setdefault(project, Writer(self.folder / project / "digits", f"g{len(self.writers)}-"))
        writer.append((ring or self.ring).project(project).data, record, 3600.0, NOON_S)
        kept.append(record)

    def read(self, project: str, ring: KeyRing | None = None) -> list[bytes]:
        keys = (ring or KeyRing(self.folder)).project(project, may_make=False).opening
        found = segments.segments(self.folder / project / "digits")
        return sorted(record for _, path in found for record in segments.read(path, *keys))


STEPS = st.lists(
    st.tuples(st.sampled_from(("write", "rotate", "master", "forget", "restart")), st.sampled_from("abc")), max_size=30
)


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_whatever_is_done_a_project_reads_what_was_kept_since_it_was_last_forgotten(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]]
) -> None:
    shelf = Shelf(tmp_path_factory.mktemp("samples"))
    gateway = KeyRing(shelf.folder)  # another process, which keeps what it knows
    rotated: dict[str, int] = {}
    for step, project in steps:
        has_keys = (shelf.folder / project / OF_PROJECT).exists()
        match step:
            case "write":
                shelf.write(project, gateway)
            case "rotate" if has_keys and rotated.get(project, 0) < OLDER_MAX:
                shelf.ring.rotate(project)
                rotated[project] = rotated.get(project, 0) + 1
            case "master" if any(shelf.folder.glob(f"*/{OF_PROJECT}")):
                assert shelf.ring.rotate_master()[1] == []
            case "forget":
                assert shelf.ring.destroy(project) is has_keys
                shelf.written.pop(project, None)
                rotated.pop(project, None)
            case "restart":
                gateway = KeyRing(shelf.folder)
            case _:
                continue
        for each, kept in shelf.written.items():
            assert shelf.read(each) == sorted(kept)


def test_a_destroyed_projects_copies_are_unreadable_and_the_others_are_not(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "samples")
    shelf.write("one")
    shelf.write("two")
    copy = tmp_path / "copy"
    shutil.copytree(shelf.folder / "one", copy)
    assert shelf.ring.destroy("one")
    assert not shelf.ring.destroy("one")
    with pytest.raises(FileNotFoundError):
        shelf.read("one")
    assert shelf.read("two") == [b"two 0"]
    shelf.written.clear()
    shelf.write("one")  # with new keys
    assert shelf.read("one") == [b"one 0"]
    (found,) = segments.segments(copy / "digits")
    assert list(segments.read(found[1], *shelf.ring.project("one").opening)) == []


def test_what_a_gateway_writes_while_its_project_is_forgotten_is_unreadable(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    keys = shelf.ring.project("one")  # a gateway has them in its hand
    KeyRing(tmp_path).destroy("one")
    Writer(tmp_path / "one" / "digits", "g-").append(keys.data, b"late", 3600.0, NOON_S)
    assert KeyRing(tmp_path).project("one") != keys
    assert shelf.read("one") == []
    assert shelf.ring.project("one") != keys  # nor does that gateway seal with them again


def test_one_projects_keys_open_nothing_of_another(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.write("one")
    shelf.write("two")
    (_, path), *_ = segments.segments(tmp_path / "two" / "digits")
    assert list(segments.read(path, *shelf.ring.project("one").opening)) == []
    shutil.copy(tmp_path / "one" / OF_PROJECT, tmp_path / "two" / OF_PROJECT)
    with pytest.raises(Unreadable, match="keys of project 'two' are damaged"):
        KeyRing(tmp_path).project("two")


def test_a_lost_or_damaged_key_fails_closed_and_says_what_to_do(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.write("one")
    kept = (tmp_path / MASTER).read_bytes()
    (tmp_path / MASTER).unlink()
    for project in ("one", "another"):  # no new master key is made beside keys that it cannot open
        with pytest.raises(Unreadable, match=r"master\.key, is gone; restore it"):
            KeyRing(tmp_path).project(project)
    assert not (tmp_path / MASTER).exists()
    for damaged in (b"", b"no hex", b"\xff" * 64, kept[:-9]):
        (tmp_path / MASTER).write_bytes(damaged)
        with pytest.raises(Unreadable, match="64 hex digits"):
            KeyRing(tmp_path).project("one")
    (tmp_path / MASTER).write_bytes(kept)
    assert shelf.read("one") == [b"one 0"]
    whole = (tmp_path / "one" / OF_PROJECT).read_bytes()
    for damaged in (b"", whole[:-1], whole[:40], whole[:-1] + bytes([whole[-1] ^ 1])):
        (tmp_path / "one" / OF_PROJECT).write_bytes(damaged)
        with pytest.raises(Unreadable, match="stoker samples forget --project one"):
            KeyRing(tmp_path).project("one")
    assert KeyRing(tmp_path).destroy("one")
    assert isinstance(KeyRing(tmp_path).project("one"), ProjectKeys)


def test_a_damaged_project_keeps_the_master_key_that_may_yet_open_it(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.write("good")
    shelf.write("bad")
    old = (tmp_path / MASTER).read_text()
    whole = (tmp_path / "bad" / OF_PROJECT).read_bytes()
    (tmp_path / "bad" / OF_PROJECT).write_bytes(b"damaged")
    assert shelf.ring.rotate_master() == (1, ["bad"])
    assert old in (tmp_path / MASTER).read_text()
    assert shelf.read("good") == [b"good 0"]
    (tmp_path / "bad" / OF_PROJECT).write_bytes(whole)  # from a backup
    assert shelf.read("bad") == [b"bad 0"]
    assert shelf.ring.rotate_master() == (2, [])
    assert len((tmp_path / MASTER).read_text().split()) == 1
    assert shelf.read("bad") == [b"bad 0"]


def test_a_master_key_that_lies_elsewhere_is_replaced_by_whoever_keeps_it(tmp_path: Path) -> None:
    named = tmp_path / "mounted"
    named.write_text("aa" * 32)
    folder = tmp_path / "samples"
    shelf = Shelf(folder)
    shelf.ring = KeyRing(folder, str(named))
    shelf.write("one")
    named.write_text("bb" * 32 + "\n" + "aa" * 32 + "\n")
    assert shelf.read("one", KeyRing(folder, str(named))) == [b"one 0"]
    assert shelf.ring.rotate_master() == (1, [])
    named.write_text("bb" * 32)
    assert shelf.read("one", KeyRing(folder, str(named))) == [b"one 0"]


def test_whatever_moment_it_is_killed_at_everything_can_be_opened(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    for number in range(5):
        shelf.write(f"p{number}")
    chance = random.Random(7)
    for _ in range(8):
        argv = [sys.executable, "-c", ROTATES, str(tmp_path)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "began\n"
            ends_s = time.monotonic() + chance.random() * 0.03
            while time.monotonic() < ends_s:
                pass
            process.kill()
        for project in shelf.written:
            found = KeyRing(tmp_path).project(project, may_make=False)
            assert len(found.data) == 32
    assert shelf.ring.rotate_master() == (5, [])


def test_a_kill_between_the_key_and_the_first_sample_leaves_a_key_that_the_next_start_uses(tmp_path: Path) -> None:
    makes = "import os, sys; from pathlib import Path; from stoker.telemetry.sealing import KeyRing\n"
    makes += "KeyRing(Path(sys.argv[1])).project('one'); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", makes, str(tmp_path)], check=False).returncode == -9
    before = (tmp_path / "one" / OF_PROJECT).read_bytes()
    shelf = Shelf(tmp_path)
    shelf.write("one")
    assert (tmp_path / "one" / OF_PROJECT).read_bytes() == before
    assert shelf.read("one") == [b"one 0"]
