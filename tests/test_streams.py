"""The server of streams that tests use leaves no connection behind, however late somebody came."""

import asyncio
import gc
import socket
import ssl
import warnings
from pathlib import Path

import pytest

from tests.gateway.certificates import self_signed
from tests.streams import serving


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*self_signed(tmp_path_factory.mktemp("tls"), "streams"))
    return context


@pytest.mark.parametrize("is_secure", [False, True])
@pytest.mark.parametrize("turns", range(6))
def test_who_came_just_before_the_end_is_closed_with_it(
    tmp_path: Path, turns: int, is_secure: bool, tls: ssl.SSLContext
) -> None:
    clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]

    async def idle(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def work() -> None:
        async with serving(idle, tmp_path / "s", tls if is_secure else None):
            for each in clients:
                each.connect(str(tmp_path / "s"))
            for _ in range(turns):
                await asyncio.sleep(0)

    with warnings.catch_warnings(record=True) as left:
        warnings.simplefilter("always")
        loop = asyncio.new_event_loop()  # which, unlike asyncio.run, ends nothing by itself
        loop.run_until_complete(work())
        loop.close()
        gc.collect()
    assert not left
    for each in clients:
        each.close()
