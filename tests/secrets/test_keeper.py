"""Secrets in a process: fresh, stale, gone; read once for all who ask; never in a state or a log."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stoker.core import secrets as core
from stoker.secrets import keeper
from stoker.secrets.keeper import Secrets
from stoker.secrets.vault import Vault, VaultSettings
from stoker.types.errors import InvalidInput, SecretUnavailable
from tests.secrets import vault_server
from tests.secrets.vault_server import TOKEN, VaultServer

REF = "vault:secret/stoker/team/openai#key"
PATH = "secret/stoker/team/openai"


class Bench:
    """A process' secrets on a clock that a test moves, and the Vault behind them."""

    def __init__(self, folder: Path, server: VaultServer) -> None:
        self.now_s = 1000.0
        self.server = server
        self.folder = folder
        vault = Vault(VaultSettings(address=server.url, token=TOKEN), 60.0, rest_s=0.0)
        self.secrets = Secrets(
            folder, vault, process="gateway-0", ttl_s=20.0, stale_s=600.0, clock=lambda: self.now_s,
            environ={"STOKER_SECRET_TEAM__KEY": "from-env", "OTHER": "not-for-this"},
        )  # fmt: skip

    async def look(self, after_s: float = 0.0) -> None:
        """Let time pass, look, and wait for what is read."""
        self.now_s += after_s
        self.secrets.look()
        while any(entry.task is not None for entry in self.secrets._entries.values()):
            await asyncio.sleep(0.001)

    def file(self, name: str, text: str) -> str:
        path = self.folder / "team" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return f"file:{path}"


def run(folder: Path, work: Callable[[Bench], Awaitable[None]]) -> None:
    @asynccontextmanager
    async def bench() -> AsyncIterator[Bench]:
        with vault_server.serving() as server:
            server.put(PATH, key="one")
            found = Bench(folder, server)
            try:
                yield found
            finally:
                await found.secrets.close()

    async def whole() -> None:
        async with bench() as found:
            await work(found)

    asyncio.run(whole())


def test_a_value_is_read_once_for_all_who_ask_at_once(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        found = await asyncio.gather(*(bench.secrets.get(REF) for _ in range(1000)))
        assert set(found) == {"one"}
        assert bench.server.reads(PATH) == 1

    run(tmp_path, work)


def test_a_new_version_is_used_within_its_time_and_nobody_waits_for_it(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        changed: list[str] = []
        bench.secrets.on_change = changed.append
        bench.secrets.follow([REF])
        await bench.look()
        assert bench.secrets.peek(REF) == (1, "one")
        bench.server.put(PATH, key="two")
        await bench.look(19.0)
        assert bench.secrets.peek(REF) == (1, "one")
        await bench.look(1.0)
        assert bench.secrets.peek(REF) == (2, "two")
        await bench.look(21.0)  # the same again is no change
        assert bench.secrets.peek(REF) == (2, "two")
        assert changed == [REF, REF]

    run(tmp_path, work)


def test_the_last_value_is_used_on_for_a_while_and_then_is_gone(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        bench.secrets.follow([REF])
        await bench.look()
        bench.server.fault = "503"
        await bench.look(30.0)
        (state,) = bench.secrets.states()
        assert state.is_usable
        assert "sealed" in state.problem
        assert await bench.secrets.get(REF) == "one"
        await bench.look(580.0)
        assert bench.secrets.peek(REF) == (1, "one")
        await bench.look(11.0)
        assert bench.secrets.peek(REF) is None
        with pytest.raises(SecretUnavailable, match="sealed"):
            await bench.secrets.get(REF)
        assert not bench.secrets._entries[REF].value  # nor is it kept in memory
        bench.server.fault = ""
        await bench.look(core.BACKOFF_MAX_S)
        assert bench.secrets.peek(REF) == (1, "one")  # the same value as before
        assert bench.secrets.states()[0].problem == ""

    run(tmp_path, work)


def test_failures_are_tried_again_ever_more_seldom(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        bench.server.fault = "500"
        bench.secrets.follow([REF])
        for _ in range(600):
            await bench.look(0.1)
        assert 5 <= bench.server.reads(PATH) <= 8  # in a minute: after 0, 1, 3, 7, 15, 31, 51 s

    run(tmp_path, work)


def test_one_that_was_refused_is_read_at_once_but_not_by_each_request(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        await bench.secrets.get(REF)
        bench.server.put(PATH, key="two")
        bench.now_s += core.REREAD_S
        found = await asyncio.gather(*(bench.secrets.reread(REF) for _ in range(200)))
        assert any(found)
        assert bench.server.reads(PATH) == 2
        assert await bench.secrets.get(REF) == "two"
        assert not await bench.secrets.reread(REF)
        assert bench.server.reads(PATH) == 2
        assert not await bench.secrets.reread(REF, insists=True)
        assert bench.server.reads(PATH) == 3
        assert not await bench.secrets.reread("vault:secret/nobody/asked#x")

    run(tmp_path, work)


def test_files_and_variables(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        plain, fields = bench.file("plain", " abc \n"), bench.file("fields", '{"user": "u", "key": "k"}')
        assert await bench.secrets.get(plain) == "abc"
        assert await bench.secrets.get(f"{fields}#key") == "k"
        assert await bench.secrets.get("env:STOKER_SECRET_TEAM__KEY") == "from-env"
        for wrong, words in {
            "env:OTHER": "is not set",
            "env:STOKER_SECRET_NONE": "is not set",
            f"{plain}#key": "no JSON object",
            f"{fields}#none": "has no text in its field",
            bench.file("empty", "\n"): "is empty",
            bench.file("large", "x" * (1 << 17)): "more than",
            f"file:{bench.folder}/team/none": "No such file",
            f"file:{bench.folder}/team": "Is a directory",
        }.items():
            with pytest.raises(SecretUnavailable, match=words):
                await bench.secrets.get(wrong)
        with pytest.raises(InvalidInput):
            await bench.secrets.get("sk-a-literal-one")

    run(tmp_path, work)


def test_a_file_is_followed_as_it_is_replaced(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        plain = bench.file("plain", "one")
        bench.secrets.follow([plain])
        await bench.look()
        (bench.folder / "team" / "next").write_text("two")
        (bench.folder / "team" / "next").replace(bench.folder / "team" / "plain")
        await bench.look(core.LOCAL_TTL_S)
        assert bench.secrets.peek(plain) == (2, "two")

    run(tmp_path, work)


def test_no_link_leads_out_of_a_projects_folder_and_none_that_others_write_is_read(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        folder = bench.folder / "team"
        bench.file("real", "mine")
        (folder / "inside").symlink_to(folder / "real")
        assert await bench.secrets.get(f"file:{folder}/inside") == "mine"
        (bench.folder / "theirs").write_text("not mine")
        (folder / "out").symlink_to(bench.folder / "theirs")
        (bench.folder / "other").symlink_to(folder)
        open_one = bench.file("open", "x")
        (folder / "open").chmod(0o666)
        for wrong in (f"file:{folder}/out", f"file:{bench.folder}/other/real", open_one):
            with pytest.raises(SecretUnavailable, match=r"leads out of|written by others"):
                await bench.secrets.get(wrong)

    run(tmp_path, work)


def test_a_value_is_in_no_state_and_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def work(bench: Bench) -> None:
        bench.server.put(PATH, key="PLANTED-VALUE")
        await bench.secrets.get(REF)
        bench.server.fault = "html"
        await bench.look(30.0)
        states = bench.secrets.states()
        told = keeper.encode(states)
        assert keeper.decode(told) == states
        assert b"PLANTED" not in told
        assert b"TOP-SECRET" not in told
        assert "PLANTED" not in caplog.text
        assert not any("PLANTED" in str(record.__dict__) for record in caplog.records)

    run(tmp_path, work)


def test_what_nobody_may_have_any_more_is_dropped(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        bench.secrets.follow([REF])
        await bench.look()
        bench.secrets.follow([])
        assert bench.secrets.peek(REF) is None
        assert bench.secrets.states() == []

    run(tmp_path, work)


def test_the_table_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "ENTRIES_MAX", 2)

    async def work(bench: Bench) -> None:
        await bench.secrets.get(REF)
        await bench.secrets.get("env:STOKER_SECRET_TEAM__KEY")
        with pytest.raises(SecretUnavailable, match="2 secrets already"):
            await bench.secrets.get("env:STOKER_SECRET_TEAM__OTHER")

    run(tmp_path, work)
