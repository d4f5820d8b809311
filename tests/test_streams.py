"""The server of streams that tests use leaves no connection behind, however late somebody came."""

import asyncio
import gc
import socket
import warnings
from pathlib import Path

import pytest

from tests.streams import serving


@pytest.mark.parametrize("turns", range(6))
def test_who_came_just_before_the_end_is_closed_with_it(tmp_path: Path, turns: int) -> None:
    clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]

    async def idle(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def work() -> None:
        async with serving(idle, tmp_path / "s"):
            for each in clients:
                each.connect(str(tmp_path / "s"))
            for _ in range(turns):
                await asyncio.sleep(0)

    with warnings.catch_warnings(record=True) as left:
        warnings.simplefilter("always")
        asyncio.run(work())
        gc.collect()
    assert not left
    for each in clients:
        each.close()
