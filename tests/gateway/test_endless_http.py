"""What never ends, and answers that nobody reads: a gateway's memory does not follow its clients."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway import rig as rigs
from tests.gateway.rig import Rig, connect, infer, run
from tests.gateway.test_hostile_http import GET, answers


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rigs.rig(tmp_path_factory.mktemp("endless"), replicas=1, max_body_bytes=1 << 20) as made:
        yield made


@pytest.mark.parametrize(
    "head",
    [
        GET + b"transfer-encoding: chunked\r\n\r\n0\r\nx: ",
        GET + b"transfer-encoding: chunked\r\n\r\n1;",
        GET + b"x: ",
        GET,
    ],
    ids=["a trailer", "a chunk extension", "a header", "headers"],
)
def test_what_never_ends_is_cut_before_it_takes_memory(rig: Rig, head: bytes) -> None:
    async def work() -> None:
        reader, writer = await connect(rig)
        writer.write(head)
        sent = 0
        try:
            while sent < 256 << 20 and not reader.at_eof():
                writer.write(b"y" * (1 << 18) if head != GET else b"y: z\r\n" * 40_000)
                await asyncio.wait_for(writer.drain(), 60)
                sent += 1 << 18
                peak = peak_bytes(rig)
                assert peak - before < 32 << 20, f"{sent} bytes sent, {peak - before} held"
                await asyncio.sleep(0)
                if reader._buffer:  # type: ignore[attr-defined]
                    break
        except ConnectionError:
            pass
        assert sent < 64 << 20
        writer.transport.abort()

    before = peak_bytes(rig)
    run(work)


def test_pipelined_requests_whose_answers_nobody_reads_are_not_worked_off_into_memory(rig: Rig) -> None:
    async def work() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=1)
        size = len(await answers(rig, b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
        before = peak_bytes(rig)
        writer.write(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n" * ((96 << 20) // size))
        worked_s, quiet = -1.0, 0
        while quiet < 5:  # until the gateway does nothing more for this client; bounded by run
            await asyncio.sleep(0.05)
            seen_s = cpu_s(rig)
            quiet = quiet + 1 if seen_s - worked_s < 0.02 else 0
            worked_s = seen_s
        assert peak_bytes(rig) - before < 24 << 20
        assert (await infer(rig, "{}")).status == 200
        writer.transport.abort()

    run(work)


def cpu_s(rig: Rig) -> float:
    """Return the processor time of the gateway."""
    fields = Path(f"/proc/{rig.processes['gateway-0'].pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def peak_bytes(rig: Rig) -> int:
    """Return the most memory that the gateway ever had."""
    text = Path(f"/proc/{rig.processes['gateway-0'].pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) * 1024
