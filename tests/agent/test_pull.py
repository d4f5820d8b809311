"""Files of a version come whole and right to a node, or not at all, whoever sends them."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stoker.agent import pull
from stoker.agent.pull import Puller
from stoker.blob.folder import FolderBlobs
from stoker.types.errors import NotFound, NotReachable, RefusedArtifact, StokerError
from stoker.types.ids import Digest
from stoker.types.models import FileEntry, VersionManifest
from tests.streams import serving

DATA = bytes(range(256)) * 20_000


def entry(data: bytes, path: str = "model.bin") -> FileEntry:
    return FileEntry(path, Digest(f"sha256:{hashlib.sha256(data).hexdigest()}"), len(data))


def manifest(*files: FileEntry) -> VersionManifest:
    return VersionManifest(format="onnx", files=files, entry=files[0].path, tasks=("predict",))


class Control:
    """Answers each request for a blob with the next of its answers: a body, a status, or half of one and silence."""

    def __init__(self, *answers: bytes | int) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head.split()[1])
        said = self.answers.pop(0)
        if isinstance(said, int):
            writer.write(f"HTTP/1.1 {said} Oops\r\ncontent-length: 2\r\n\r\nno".encode())
        elif said.startswith(b"half:"):
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(DATA)}\r\n\r\n".encode() + said[5:])
            await writer.drain()
            await asyncio.Event().wait()
        else:
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(said)}\r\n\r\n".encode() + said)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def control(tmp_path: Path, *answers: bytes | int) -> AsyncIterator[tuple[Control, Puller, FolderBlobs]]:
    found, path = Control(*answers), tmp_path / "c.sock"
    (tmp_path / "tmp").mkdir(exist_ok=True)
    blobs = FolderBlobs(tmp_path / "blobs", tmp_path / "tmp")
    async with serving(found.serve, path):
        yield found, Puller(str(path), blobs), blobs


def run(main: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), 90))  # type: ignore[arg-type]


def test_a_version_comes_whole_and_each_file_once(tmp_path: Path) -> None:
    wanted = manifest(entry(DATA), entry(DATA, "again.bin"), entry(b"x", "small.bin"))
    told: list[float] = []

    async def main() -> None:
        async with control(tmp_path, DATA, b"x") as (found, puller, blobs):
            await asyncio.gather(puller.fetch(wanted, told.append), puller.fetch(wanted, lambda _: None))
            await puller.fetch(wanted, told.append)
            assert len(found.asked) == 2
            assert all(blobs.verify(each.digest) for each in wanted.files)

    run(main)
    assert told[-1] <= 1.0
    assert told == sorted(told[: len(told) - 2]) + told[-2:]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (DATA[:-1] + b"!", RefusedArtifact),
        (DATA + b"more", RefusedArtifact),
        (DATA[:-1], RefusedArtifact),
        (404, NotFound),
        (500, StokerError),
        (b"half:" + DATA[:1000], NotReachable),
    ],
)
def test_what_is_wrong_or_stalls_leaves_nothing_and_can_come_again(
    said: bytes | int, kind: type[StokerError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "STALL_S", 0.2)

    async def main() -> None:
        async with control(tmp_path, said, DATA) as (_, puller, blobs):
            with pytest.raises(kind):
                await puller.fetch(manifest(entry(DATA)), lambda _: None)
            assert list(blobs.list()) == []
            assert list((tmp_path / "tmp").iterdir()) == []
            await puller.fetch(manifest(entry(DATA)), lambda _: None)
            assert blobs.verify(entry(DATA).digest)

    run(main)
