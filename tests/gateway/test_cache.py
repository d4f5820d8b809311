"""Kept answers, through a real gateway before real processes: whose they are, how long, how much of them."""

import asyncio
import contextlib
import hashlib
import json
import random
import re
import signal
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stoker.gateway.layers.cache import Tap
from stoker.gateway.relay import PING
from tests.gateway import rig as rigs
from tests.gateway.rig import KEY, TEAM_KEY, Answer, Rig, ask, run, until
from tests.gateway.test_grpc import AUTH, Service, request
from tests.gateway.test_watch import Control

OTHER_KEY = "stk_other000_0123456789012345678901234567890123456789012"
POOR_KEY = "stk_poor0000_0123456789012345678901234567890123456789012"
STRANGER = "stk_strange0_0123456789012345678901234567890123456789012"
RULES = {"ttl_s": 600.0, "max_bytes": 1 << 20, "shared": False}
ENTRY_MAX = RULES["max_bytes"] // 8


def table(rig: Rig) -> dict[str, Any]:
    """Return a table where the rig's endpoints keep answers, and more endpoints do by other rules."""
    made = rig.table(["r0", "r1"])
    digits = made["endpoints"][0]
    for each in made["endpoints"]:
        each["cache"] = RULES
    for name, rules in {"open": {**RULES, "shared": True}, "brief": {**RULES, "ttl_s": 0.5}, "plain": None}.items():
        made["endpoints"].append({**digits, "endpoint": name, "cache": rules})
    for text, limits in ((OTHER_KEY, {}), (POOR_KEY, {"tokens_per_min": 120})):
        digest = hashlib.sha256(text.encode()).hexdigest()
        made["keys"].append({"sha256": digest, "key": text[4:12], "project": "default", "limits": limits})
    return made


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder: Path = tmp_path_factory.mktemp("cache")
    with rigs.rig(folder, replicas=2, grpc=True) as made:
        made.kill("gateway-0")
        (made.home.gateway / "routes.json").write_text(json.dumps(table(made)))
        made.start_gateway()
        yield made


def computed(rig: Rig) -> int:
    """Return how many requests the replicas were asked."""
    return sum(line.startswith("request") for name in ("r0", "r1") for line in rig.lines(name))


async def infer(rig: Rig, text: str, name: str = "digits", **more: Any) -> Answer:
    return await ask(rig, "POST", f"/v2/models/{name}/infer", text.encode(), **more)


async def chat(rig: Rig, text: str, **fields: Any) -> Answer:
    body = {"model": "smol", "messages": [{"role": "user", "content": text}], "temperature": 0, **fields}
    return await ask(rig, "POST", "/v1/chat/completions", json.dumps(body).encode())


def kept(answer: Answer) -> str:
    """Return what the answer says of itself; a hit also has its age, nothing else has one."""
    assert ("age" in answer.headers) == (answer.headers.get("x-stoker-cache") == "hit")
    return answer.headers.get("x-stoker-cache", "")


async def number(rig: Rig, pattern: str) -> float:
    """Return the sum of the metrics whose line matches `pattern`."""
    lines = (await ask(rig, "GET", "/metrics")).body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if re.match(pattern, line))


def test_an_equal_request_is_answered_from_what_was_kept(rig: Rig) -> None:
    async def work() -> None:
        before = computed(rig)
        first = await infer(rig, "who: equal", x_request_id="first")
        again = await infer(rig, "who: equal", x_request_id="again")
        assert (kept(first), kept(again)) == ("miss", "hit")
        assert first.body == again.body
        assert b" first " in again.body
        assert again.headers["x-request-id"] == "again"
        assert again.headers["content-type"] == first.headers["content-type"]
        assert int(again.headers["age"]) in range(60)
        assert computed(rig) == before + 1

    run(work)


def test_a_binary_answer_comes_back_with_the_length_of_its_json(rig: Rig) -> None:
    async def work() -> None:
        for state in ("miss", "hit"):
            answer = await infer(rig, "slow:0 binary", inference_header_content_length="6")
            assert kept(answer) == state
            assert answer.headers["inference-header-content-length"] == "6"
            assert answer.headers["content-type"] == "application/octet-stream"
        assert kept(await infer(rig, "slow:0 binary", inference_header_content_length="7")) == "miss"
        assert kept(await infer(rig, "slow:0 binary")) == "miss"
        assert kept(await infer(rig, "slow:0 binary ")) == "miss"
        path = "/v2/models/digits/versions/1/infer"
        assert [kept(await ask(rig, "POST", path, b"slow:0 binary")) for _ in range(2)] == ["miss", "hit"]

    run(work)


def test_an_answer_over_grpc_is_kept_with_its_form_and_told_as_metadata(rig: Rig) -> None:
    async def work() -> None:
        async with Service(rig) as service:
            answers = []
            for text, state in (("kept", "miss"), ("kept", "hit"), ("other", "miss")):
                call = service.stub.ModelInfer(request(text), metadata=AUTH)
                answers.append(await call)
                said = dict(await call.trailing_metadata())
                assert (said["x-stoker-cache"], "age" in said) == (state, state == "hit")
            assert answers[0] == answers[1]
            assert answers[1].id == "kept"
            assert list(answers[1].raw_output_contents) == [b"\0" * 256]

    run(work)


def test_compressed_and_plain_bodies_are_the_same_request(rig: Rig) -> None:
    async def work() -> None:
        text = b"slow:0 " + b"z" * 200_000  # hashed and inflated in a thread
        packed = zlib.compress(text)
        first = await ask(rig, "POST", "/v2/models/plain/infer", text)
        assert kept(first) == ""
        small = zlib.compress(b"slow:0 packed")
        assert kept(await infer(rig, "slow:0 packed")) == "miss"
        answer = await ask(rig, "POST", "/v2/models/digits/infer", small, content_encoding="deflate")
        assert kept(answer) == "hit"
        for state in ("miss", "miss"):  # over an eighth of the cache
            answer = await ask(rig, "POST", "/v2/models/digits/infer", packed, content_encoding="deflate")
            assert (kept(answer), answer.body) == (state, text)

    run(work)


def test_errors_are_never_kept(rig: Rig) -> None:
    async def work() -> None:
        before = computed(rig)
        for _ in range(3):
            answer = await infer(rig, "refuse:invalid_input")
            assert (answer.status, kept(answer)) == (400, "miss")
        assert computed(rig) == before + 3

    run(work)


def test_keys_do_not_see_each_others_answers_unless_they_are_shared_on_purpose(rig: Rig) -> None:
    async def work() -> None:
        assert [kept(await infer(rig, "who: keys", key=key)) for key in (KEY, OTHER_KEY, KEY)] == [
            "miss",
            "miss",
            "hit",
        ]
        states = [kept(await infer(rig, "who: keys", "open", key=key)) for key in (KEY, OTHER_KEY, KEY)]
        assert states == ["miss", "hit", "hit"]
        assert (await infer(rig, "who: keys", "open", key=STRANGER)).status == 401
        assert (await infer(rig, "who: keys", "open", key=TEAM_KEY)).status == 404
        # the admin's own entry in the team's endpoint, and the team's
        states = [kept(await infer(rig, "who: keys", "team%2Fsecret"))]
        states += [kept(await infer(rig, "who: keys", "secret", key=TEAM_KEY)) for _ in range(2)]
        assert states == ["miss", "miss", "hit"]

    run(work)


def test_an_endpoint_that_keeps_nothing_says_nothing(rig: Rig) -> None:
    async def work() -> None:
        assert [kept(await infer(rig, "slow:0 plain", "plain")) for _ in range(2)] == ["", ""]

    run(work)


def test_cache_control_of_the_client_is_honoured(rig: Rig) -> None:
    async def work() -> None:
        assert kept(await infer(rig, "who: control", cache_control="no-store")) == ""
        assert kept(await infer(rig, "who: control", x_request_id="old")) == "miss"
        assert kept(await infer(rig, "who: control", cache_control="no-store")) == ""
        assert kept(await infer(rig, "who: control", cache_control="max-age=300")) == "hit"
        assert kept(await infer(rig, "who: control", cache_control="no-cache", x_request_id="new")) == "miss"
        answer = await infer(rig, "who: control")
        assert kept(answer) == "hit"
        assert b" new " in answer.body, "no-cache asks for a new answer, which replaces the old one"
        while kept(await infer(rig, "who: control", cache_control="max-age=0")) != "miss":
            pass

    run(work)


def test_an_answer_is_given_for_its_time_and_no_longer(rig: Rig) -> None:
    async def work() -> None:
        ttl_s, began_s = 0.5, time.monotonic()
        assert kept(await infer(rig, "who: brief", "brief", x_request_id="old")) == "miss"
        answer = await infer(rig, "who: brief", "brief", x_request_id="young")
        assert kept(answer) == "hit" or time.monotonic() - began_s > ttl_s
        while kept(answer) == "hit":
            assert b" old " in answer.body
            await asyncio.sleep(0.05)
            answer = await infer(rig, "who: brief", "brief", x_request_id="young")
        assert b" young " in answer.body
        assert time.monotonic() - began_s > ttl_s

    run(work)


def test_greedy_chat_is_kept_in_the_form_it_was_asked_for(rig: Rig) -> None:
    async def work() -> None:
        whole = [await chat(rig, "slow:0 form") for _ in range(2)]
        assert [kept(each) for each in whole] == ["miss", "hit"]
        before = computed(rig)
        streams = [await chat(rig, "chunks:5 every:0.01 form", stream=True) for _ in range(3)]
        assert [kept(each) for each in streams] == ["miss", "hit", "hit"]
        assert computed(rig) == before + 1
        for each in streams:
            assert each.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert each.body == streams[0].body
            assert each.body.count(b"data: {") == 5
            assert each.body.endswith(b"data: [DONE]\n\n")
        assert kept(await chat(rig, "chunks:5 every:0.01 form")) == "miss"

    run(work)


@pytest.mark.parametrize(
    "fields", [{"temperature": 0.1}, {"temperature": None}, {"n": 2}, {"temperature": 1, "seed": 7}]
)
def test_what_is_drawn_is_not_kept(rig: Rig, fields: dict[str, Any]) -> None:
    async def work() -> None:
        assert [kept(await chat(rig, f"slow:0 {fields}", **fields)) for _ in range(2)] == ["", ""]

    run(work)


def test_embeddings_are_kept_and_what_they_save_is_counted(rig: Rig) -> None:
    async def work() -> None:
        body = json.dumps({"model": "mini", "input": "slow:0 embed"}).encode()
        names = 'project="default",endpoint="mini"'
        before = await number(rig, f'stoker_tokens_total{{{names}.*kind="input"')
        answers = [await ask(rig, "POST", "/v1/embeddings", body) for _ in range(4)]
        assert [kept(each) for each in answers] == ["miss", "hit", "hit", "hit"]
        assert await number(rig, f'stoker_tokens_total{{{names}.*kind="saved"') == 3 * 8
        assert await number(rig, f'stoker_tokens_total{{{names}.*kind="input"') == before + 3
        assert await number(rig, f"stoker_cache_hits_total{{{names}") == 3
        assert await number(rig, f"stoker_cache_misses_total{{{names}") == 1
        assert await number(rig, f'stoker_requests_total{{{names},revision="default.mini-1".*code="200"') == 4

    run(work)


def test_a_hit_costs_no_tokens_of_the_keys_limit(rig: Rig) -> None:
    async def work() -> None:
        def ask_for(text: str) -> bytes:
            return json.dumps({"model": "mini", "input": f"slow:0 {text}"}).encode()

        hits = [await ask(rig, "POST", "/v1/embeddings", ask_for("poor"), key=POOR_KEY) for _ in range(60)]
        assert {answer.status for answer in hits} == {200}, "60 answers of 8 tokens, of which one was computed"
        others = [await ask(rig, "POST", "/v1/embeddings", ask_for(str(at)), key=POOR_KEY) for at in range(30)]
        assert 429 in {answer.status for answer in others}

    run(work)


def test_what_is_kept_stays_within_its_bytes(rig: Rig) -> None:
    async def work() -> None:
        size = ENTRY_MAX - 4_000
        for at in range(30):
            assert kept(await infer(rig, f"big:{size} {at}")) == "miss"
        held = await number(rig, 'stoker_cache_bytes{project="default",endpoint="digits"')
        assert 7 * size < held <= RULES["max_bytes"]
        assert kept(await infer(rig, f"big:{size} 29")) == "hit"
        assert kept(await infer(rig, f"big:{size} 0")) == "miss"
        assert [kept(await infer(rig, f"big:{ENTRY_MAX + 1} x")) for _ in range(2)] == ["miss", "miss"]

    run(work)


def test_nobody_gets_what_another_key_or_another_revision_was_told(rig: Rig) -> None:
    """Random sequences beside a model that knows exactly who must have computed each answer."""

    async def work() -> None:
        control = Control(rig.home.run / "control-api.sock")
        made = table(rig)
        digits = made["endpoints"][0]
        first = digits["revisions"][0]
        names = ["default.digits-5", "default.digits-6"]

        async def serve(taker: int) -> None:
            digits["revisions"] = [
                {
                    **first,
                    "revision": names[at],
                    "weight": 100 if at == taker else 0,
                    "replicas": [{"replica": f"r{at}", "address": rig.home.address(f"r{at}")}],
                }
                for at in range(2)
            ]
            rig.version += 1
            control.table = {**made, "version": rig.version}
            while await number(rig, "stoker_route_table_version") < rig.version:
                await asyncio.sleep(0.01)
            while (await ask(rig, "GET", "/v2/models/digits/ready")).status != 200:
                await asyncio.sleep(0.01)

        await control.start()
        seed = 1
        draw = random.Random(seed)
        expected: dict[tuple[str, int, str], str] = {}
        taker = 0
        await serve(taker)
        for at in range(400):
            if draw.random() < 0.05:
                taker = 1 - taker
                await serve(taker)
            key, text = draw.choice((KEY, OTHER_KEY)), f"who: random {draw.randrange(6)}"
            mine = f"{'admin' if key is KEY else 'other'}-{at}"
            answer = await infer(rig, text, key=key, x_request_id=mine)
            known = expected.setdefault((key, taker, text), mine)
            assert answer.body.decode() == f"r{taker} {known} {text}", f"seed {seed}, request {at}"
            assert kept(answer) == ("miss" if known == mine else "hit"), f"seed {seed}, request {at}"
        await control.stop()

    run(work)


def test_a_canary_answers_its_share_of_what_is_kept_and_a_new_endpoint_of_an_old_name_nothing(rig: Rig) -> None:
    async def work() -> None:
        control = Control(rig.home.run / "control-api.sock")
        made = table(rig)
        digits = made["endpoints"][0]
        digits["revisions"] = [
            {
                **digits["revisions"][0],
                "revision": f"default.digits-{7 + at}",
                "weight": weight,
                "replicas": [{"replica": f"r{at}", "address": rig.home.address(f"r{at}")}],
            }
            for at, weight in ((0, 70), (1, 30))
        ]
        control.table = {**made, "version": rig.version}
        await control.start()
        while await number(rig, "stoker_route_table_version") < rig.version:
            await asyncio.sleep(0.01)
        while {(await infer(rig, "who: canary")).body[:2] for _ in range(20)} != {b"r0", b"r1"}:
            pass
        answers = [await infer(rig, "who: canary") for _ in range(300)]
        assert {kept(each) for each in answers} == {"hit"}
        assert 50 < sum(each.body.startswith(b"r1") for each in answers) < 135  # 90 of 300, five deviations
        again = {**made, "version": rig.version + 1}
        rig.version += 1
        again["endpoints"] = [{**digits, "created_at_s": 2.0}, *made["endpoints"][1:]]
        control.table = again
        while await number(rig, "stoker_route_table_version") < rig.version:
            await asyncio.sleep(0.01)
        assert kept(await infer(rig, "who: canary")) == "miss"
        gone = {**made, "version": rig.version + 1, "endpoints": made["endpoints"][1:]}
        rig.version += 1
        control.table = gone
        while (await infer(rig, "who: canary")).status != 404:
            await asyncio.sleep(0.01)
        while await number(rig, 'stoker_cache_bytes{project="default",endpoint="digits"'):
            await asyncio.sleep(0.05)
        await control.stop()

    run(work)


def test_what_is_kept_is_given_when_every_replica_is_dead_and_cut_streams_are_not_kept(rig: Rig) -> None:
    async def work() -> None:
        assert kept(await infer(rig, "slow:0 dead", "open")) == "miss"
        cut = await chat(rig, "chunks:9 every:0.01 cut-after:3", stream=True)
        assert b"replica_lost" in cut.body
        for name in ("r0", "r1"):
            with contextlib.suppress(ProcessLookupError):
                rig.kill(name, signal.SIGKILL)
        assert kept(await infer(rig, "slow:0 dead", "open")) == "hit"
        for name in ("r0", "r1"):
            await asyncio.to_thread(rig.start_replica, name)
        again = await chat(rig, "chunks:9 every:0.01 cut-after:3", stream=True)
        assert kept(again) == "miss"
        assert b"[DONE]" not in again.body
        for name in ("r0", "r1"):
            if rig.processes[name].poll() is not None:
                await asyncio.to_thread(rig.start_replica, name)

    run(work)
    until(lambda: asyncio.run(infer(rig, "slow:0 alive", "plain")).status == 200, "the replicas are back")


class Listener:
    """A client (exchange.Client) that remembers what it was sent."""

    def __init__(self) -> None:
        self.is_stalled = False
        self.on_writable = None
        self.pieces: list[bytes] = []

    def send(self, status: int, headers: bytes, body: bytes) -> None:
        self.pieces.append(body)

    def start_stream(self, headers: bytes, first: bytes) -> None:
        self.pieces.append(first)

    def send_piece(self, data: bytes) -> None:
        self.pieces.append(data)

    def comment(self, data: bytes, headers: bytes = b"") -> None:
        self.pieces.append(data)

    def end_stream(self, last: bytes) -> None:
        self.pieces.append(last)

    def hold(self, count: int) -> None:
        pass

    def abort(self) -> None:
        self.pieces.clear()


def test_the_comment_that_keeps_a_stream_open_is_sent_and_not_kept() -> None:
    listener = Listener()
    tap = Tap(listener, 100)
    tap.start_stream(b"", b"a")
    tap.comment(PING)
    tap.send_piece(b"b")
    assert not tap.is_whole
    tap.end_stream(b"c")
    assert tap.is_whole
    assert tap.pieces == [b"a", b"b", b"c"]
    assert listener.pieces == [b"a", PING, b"b", b"c"]


def test_a_stream_that_began_with_comments_is_kept_without_them() -> None:
    tap = Tap(Listener(), 100)
    tap.comment(b": loading 62 %, about 9 s\n\n", b"content-type: text/event-stream\r\n")
    tap.send_piece(b"a")
    tap.end_stream(b"b")
    assert tap.is_whole
    assert tap.pieces == [b"a", b"b"]


def test_a_stream_that_grows_too_large_is_sent_on_and_let_go() -> None:
    listener = Listener()
    tap = Tap(listener, 100)
    tap.start_stream(b"", b"x" * 60)
    for _ in range(10):
        tap.send_piece(b"y" * 60)
    tap.end_stream(b"")
    assert not tap.is_whole
    assert tap.pieces == []
    assert len(b"".join(listener.pieces)) == 660
