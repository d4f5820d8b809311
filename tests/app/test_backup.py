"""A backup holds the platform of one moment, sealed; a restore is whole or changes nothing."""

import io
import sqlite3
import tarfile
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.app import backup, restore
from stoker.app.control_main import open_database
from stoker.app.home import Home
from stoker.blob.folder import FolderBlobs
from stoker.core.audit import chain
from stoker.protocol import sealed
from stoker.store import audit, copies, journal, migrate, models, projects, schema
from stoker.store.engine import Database, SchemaTooNew, open_engine, sqlite_url
from stoker.store.recording import Actor
from stoker.types.errors import Conflict, InvalidInput, NotFound, RefusedArtifact
from stoker.types.ids import ModelName
from stoker.types.models import FileEntry, VersionManifest
from tests.store import rows

KEY = sealed.key_file(b"k" * 32)
OTHER = sealed.key_file(b"o" * 32)


def quiet(step: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A state folder with a model, an audit, samples, keys, and what is made anew at a start."""
    home = Home(tmp_path / "h")
    home.make()
    database = open_database(home)
    blob = FolderBlobs(home.blobs, home.tmp).put([b"weights" * 1000])
    manifest = VersionManifest(
        format="onnx",
        files=(FileEntry("m.onnx", blob.digest, blob.size_bytes),),
        entry="m.onnx",
        tasks=("predict",),
    )
    FolderBlobs(home.blobs, home.tmp).put([b"nobody needs it"])
    database.write(lambda connection: models.add(connection, ModelName("m"), manifest, 1.0))
    database.write(lambda connection: audit.append(connection, Actor("ann", "PUT /x").act("done")))
    database.close()
    for name, text in {
        "platform.key": "private",
        "credentials.json": "{}",
        "samples/default/project.key": "p",
        "usage/g/1": "u",
    }.items():
        (home.root / name).parent.mkdir(parents=True, exist_ok=True)
        (home.root / name).write_text(text)
        (home.root / name).chmod(0o600)
    for name in ("models/x", "processes/y", "logs/z"):
        (home.root / name).write_text("made anew")
    return home


def taken(home: Home, target: Path, secret: sealed.Secret = KEY) -> Path:
    backup.take(home, target, secret, quiet)
    return target


def files(root: Path) -> dict[str, bytes]:
    found = {each.relative_to(root).as_posix(): each for each in root.rglob("*") if each.is_file()}
    return {name: each.read_bytes() for name, each in found.items() if not name.startswith("state.db")}


@pytest.mark.parametrize("place", ["nothing there", "an empty folder", "another platform"])
def test_what_is_restored_is_what_was_there_but_for_what_is_made_anew(home: Home, tmp_path: Path, place: str) -> None:
    path = taken(home, tmp_path / "b")
    assert path.stat().st_mode & 0o777 == 0o600
    new = Home(tmp_path / "new")
    if place != "nothing there":
        new.root.mkdir()
    if place == "another platform":
        (new.root / "state.db").write_text("of before")
        with pytest.raises(Conflict, match="not empty"):
            restore.restore(path, new, KEY, quiet)
    contents, before = restore.restore(path, new, KEY, quiet, replace=place == "another platform")
    assert (before is not None) == (place == "another platform")
    if before is not None:
        assert (before / "state.db").read_text() == "of before"
    kept = {name: data for name, data in files(home.root).items() if not name.startswith(("models/", "proc", "logs/"))}
    kept = {name: data for name, data in kept.items() if not name.startswith("run/") and data != b"nobody needs it"}
    kept["audit.checkpoints"] = b""
    kept.pop("samples/.keys.lock")
    assert files(new.root) == kept
    assert {each.path for each in contents.files} == {"state.db", *kept}
    assert (new.root / "platform.key").stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(new.database)) as database:
        assert database.execute("SELECT name, number FROM versions").fetchall() == [("m", 1)]
    again = open_database(new)
    acts = [chain.event_of(row) for row in again.read(lambda connection: list(audit.everything(connection)))]
    again.close()
    assert [each.action for each in acts] == ["PUT /x", "restore"]
    assert not list(tmp_path.glob("*.restoring"))


def test_a_backup_that_is_taken_while_others_write_is_of_one_moment(home: Home, tmp_path: Path) -> None:
    database = Database(open_engine(sqlite_url(home.database)))
    is_over = threading.Event()

    def pair(number: int) -> None:
        def both(connection: Any) -> None:
            projects.put(connection, rows.project(f"a{number}"), 1.0)
            journal.add(connection, journal.Entry(1.0, "Put", "", f"a{number}"))

        database.write(both)

    def write() -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            pair(number)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            path = taken(home, tmp_path / f"b{number}")
            new = Home(tmp_path / f"n{number}")
            restore.restore(path, new, KEY, quiet)
            with closing(sqlite3.connect(new.database)) as copy:
                made = {name for (name,) in copy.execute("SELECT name FROM projects WHERE name LIKE 'a%'")}
                told = {name for (name,) in copy.execute("SELECT project FROM journal WHERE action = 'Put'")}
            assert made == told
    finally:
        is_over.set()
        writer.join()
        database.close()


def test_a_backup_is_closed_to_who_has_not_its_secret_and_tells_when_it_was_changed(home: Home, tmp_path: Path) -> None:
    path = taken(home, tmp_path / "b")
    whole = path.read_bytes()
    assert b"private" not in whole
    assert b"weights" not in whole
    with pytest.raises(RefusedArtifact, match="another passphrase or key"):
        restore.verify(path, OTHER, quiet)
    with pytest.raises(InvalidInput, match="sealed with a key file"):
        restore.verify(path, sealed.passphrase("words"), quiet)
    assert restore.verify(path, KEY, quiet).schema == schema.VERSION
    new = Home(tmp_path / "new")
    start = whole.index(b"\n", len(sealed.MAGIC)) + 1
    for at in (start, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(RefusedArtifact):
            restore.restore(path, new, KEY, quiet)
    for cut in (len(whole) - 1, len(whole) // 2):
        path.write_bytes(whole[:cut])
        with pytest.raises(RefusedArtifact):
            restore.restore(path, new, KEY, quiet)
    path.write_bytes(whole.replace(schema.VERSION.encode(), b"0001", 1))
    with pytest.raises(RefusedArtifact):
        restore.restore(path, new, KEY, quiet)
    assert not new.root.exists()


def test_a_passphrase_opens_what_it_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "SCRYPT_COST", 4)
    file = io.BytesIO()
    writing = sealed.SealingWriter(file, sealed.passphrase("open sesame"), {})
    writing.write(b"x" * 10)
    writing.finish()
    file.seek(0)
    assert sealed.OpeningReader(file, sealed.passphrase("open sesame")).read(99) == b"x" * 10
    file.seek(0)
    with pytest.raises(RefusedArtifact):
        sealed.OpeningReader(file, sealed.passphrase("open says me")).read(1)
    for wrong in (
        lambda: sealed.passphrase(""),
        lambda: sealed.key_file(b"short"),
        lambda: sealed.read_head(io.BytesIO()),
    ):
        with pytest.raises(InvalidInput):
            wrong()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 300), max_size=8), st.integers(1, 64), st.data())
def test_any_stream_comes_back_as_it_was_and_no_piece_can_go_or_move(
    sizes: list[int], piece: int, data: st.DataObject
) -> None:
    known = sealed.PIECE_BYTES
    sealed.PIECE_BYTES = piece  # type: ignore[misc]
    try:
        plain = b"".join(bytes([at % 251]) * size for at, size in enumerate(sizes))
        file = io.BytesIO()
        writing = sealed.SealingWriter(file, KEY, {})
        for at, size in enumerate(sizes):
            writing.write(bytes([at % 251]) * size)
        writing.finish()
        whole = file.getvalue()
        assert io.BufferedReader(sealed.OpeningReader(io.BytesIO(whole), KEY)).read() == plain
        start = whole.index(b"\n", len(sealed.MAGIC)) + 1
        step = piece + sealed.TAG_BYTES
        pieces = [whole[at : at + step] for at in range(start, len(whole), step)]
        moved = data.draw(st.permutations(pieces) | st.just(pieces[:-1]) | st.just([*pieces, pieces[-1]]))
        if moved != pieces:
            with pytest.raises(RefusedArtifact):
                io.BufferedReader(sealed.OpeningReader(io.BytesIO(whole[:start] + b"".join(moved)), KEY)).read()
    finally:
        sealed.PIECE_BYTES = known  # type: ignore[misc]


@pytest.mark.parametrize("name", ["../out", "/etc/out", "link"])
def test_a_member_that_would_leave_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    path, outside = tmp_path / "b", tmp_path / "out"
    with path.open("wb") as file:
        writing = sealed.SealingWriter(file, KEY, {"schema": schema.VERSION})
        with tarfile.open(fileobj=writing, mode="w|") as tar:
            entry = tarfile.TarInfo(name)
            if name == "link":
                entry.type, entry.linkname = tarfile.SYMTYPE, str(outside)
            tar.addfile(entry, io.BytesIO())
        writing.finish()
    with pytest.raises(RefusedArtifact, match="is no file of a state folder"):
        restore.restore(path, Home(tmp_path / "new"), KEY, quiet)
    assert not outside.exists()


def test_a_damaged_or_missing_blob_and_a_newer_schema_are_refused(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = next(each for each in home.blobs.rglob("*") if each.is_file() and each.read_bytes().startswith(b"weights"))
    whole = blob.read_bytes()
    blob.chmod(0o600)
    blob.write_bytes(b"X" + whole[1:])
    with pytest.raises(RefusedArtifact, match="damaged before"):
        restore.verify(taken(home, tmp_path / "damaged"), KEY, quiet)
    blob.write_bytes(whole)
    good = taken(home, tmp_path / "good")
    blob.unlink()
    with pytest.raises(Exception, match="blobs go while"):
        taken(home, tmp_path / "missing")
    assert not list(tmp_path.glob("*missing*"))
    monkeypatch.setattr(schema, "VERSION", "0001")
    with pytest.raises(SchemaTooNew, match="restore it with stoker"):
        restore.restore(good, Home(tmp_path / "new"), KEY, quiet)
    with pytest.raises(NotFound, match="no platform in"):
        taken(Home(tmp_path / "nowhere"), tmp_path / "c")


# ── upgrades ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_start_after_an_upgrade_keeps_the_database_of_before_and_a_stoker_of_before_starts_from_it(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path / "h")
    home.make()
    engine = open_engine(sqlite_url(home.database))
    migrate.upgrade(engine, "0015")
    with engine.begin() as connection:
        projects.put(connection, rows.project("kept"), 1.0)
    engine.dispose()
    open_database(home).close()
    (copy,) = home.root.glob("state.db.schema-*")
    assert (copy.name, copy.stat().st_mode & 0o777) == ("state.db.schema-0015", 0o600)
    for path, version in ((home.database, schema.VERSION), (copy, "0015")):
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("SELECT version_num FROM alembic_version").fetchone() == (version,)
            assert database.execute("SELECT name FROM projects").fetchone() == ("kept",)
    open_database(home).close()
    assert list(home.root.glob("state.db.schema-*")) == [copy]
    for number in range(copies.KEPT):
        copies.copy_before(home.database, f"9{number:03}")
    assert not copy.exists()


def test_control_does_not_start_from_a_database_of_a_newer_stoker_and_leaves_it_as_it_is(home: Home) -> None:
    with closing(sqlite3.connect(home.database)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    before = home.database.read_bytes()
    with pytest.raises(SchemaTooNew, match="start the newer stoker again"):
        open_database(home)
    assert home.database.read_bytes() == before
