"""Samples through a real gateway before real processes: what is kept, hidden, dropped, and what survives a kill."""

import asyncio
import json
import stat
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stoker.core.sampling import is_drawn
from stoker.gateway.samples import HEARD_MAX_BYTES, Samples
from stoker.observe.samples import SampleStore, Wanted
from stoker.telemetry import segments
from stoker.telemetry.sealing import KeyRing
from stoker.types.samples import SampleRecord
from tests.gateway import rig as rigs
from tests.gateway.rig import Answer, Rig, ask, client, run, until
from tests.gateway.talkers import metric, metrics
from tests.gateway.test_grpc import AUTH, Service, request

SECRETS = ("alice.secret@example.com", "4242 4242 4242 4242", "DE89370400440532013000", "203.0.113.77", "EMP-123456")
TEXT = "I am alice.secret@example.com, card 4242 4242 4242 4242, DE89370400440532013000 from 203.0.113.77, EMP-123456."
RULES: dict[str, Any] = {
    "rate": 1.0, "slow_s": -1.0, "per_hour": 100_000, "patterns": {"employee": r"\bEMP-\d{6}\b"},
}  # fmt: skip
ENDPOINTS: dict[str, dict[str, Any]] = {
    "all": RULES,
    "errors": {**RULES, "rate": 0.0},
    "slow": {**RULES, "rate": 0.0, "slow_s": 0.2, "errors": False},
    "none": {**RULES, "rate": 0.0, "errors": False},
    "some": {**RULES, "rate": 0.5, "errors": False},
    "asked": {**RULES, "response": False},
    "small": {**RULES, "max_bytes": 500},
    "few": {**RULES, "per_hour": 40},
    "raw": {**RULES, "tensors": True},
}


def table(rig: Rig) -> dict[str, Any]:
    made = rig.table(["r0"])
    digits, smol = made["endpoints"][0], made["endpoints"][1]
    for name, rules in ENDPOINTS.items():
        made["endpoints"].append({**digits, "endpoint": name, "samples": rules})
    made["endpoints"].append({**smol, "endpoint": "talk", "samples": RULES})
    made["endpoints"].append({**smol, "endpoint": "mute", "samples": ENDPOINTS["none"]})
    made["endpoints"].append({**smol, "endpoint": "torn", "samples": {**ENDPOINTS["errors"], "max_bytes": 500}})
    return made


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rigs.rig(tmp_path_factory.mktemp("samples"), replicas=1, grpc=True) as made:
        made.kill("gateway-0")
        made.private = made.add_key("private", samples=False)  # type: ignore[attr-defined]
        (made.home.gateway / "routes.json").write_text(json.dumps(table(made)))
        made.start_gateway()
        yield made


def store(rig: Rig) -> SampleStore:
    return SampleStore(rig.home.samples, KeyRing(rig.home.samples), 1 << 30)


def kept(rig: Rig, endpoint: str, limit: int = 1000, **wanted: Any) -> list[SampleRecord]:
    return store(rig).read("default", endpoint, Wanted(limit=limit, **wanted), time.time())


def one(rig: Rig, endpoint: str, request_id: str) -> SampleRecord:
    until(lambda: len(kept(rig, endpoint, id=request_id)) == 1, f"{request_id} is kept")
    return kept(rig, endpoint, id=request_id)[0]


async def infer(rig: Rig, endpoint: str, text: str, request_id: str, **more: Any) -> Answer:
    body = json.dumps({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": [text]}]}).encode()
    return await ask(rig, "POST", f"/v2/models/{endpoint}/infer", body, x_request_id=request_id, **more)


async def dropped(rig: Rig, endpoint: str, reason: str) -> float:
    return metric(await metrics(rig), "stoker_samples_dropped_total", endpoint=endpoint, reason=reason)


def raw(rig: Rig) -> bytes:
    return b"".join(path.read_bytes() for path in rig.home.samples.rglob("*") if path.is_file())


def test_a_drawn_request_is_kept_with_its_answer_and_without_whom_it_names(rig: Rig) -> None:
    async def work() -> None:
        answer = await infer(rig, "all", TEXT, "whole-1")
        assert answer.status == 200
        found = one(rig, "all", "whole-1")
        assert (found.status, found.method, found.reasons, found.endpoint) == (200, "infer", ("drawn",), "all")
        assert found.request["inputs"][0]["data"][0].startswith("I am <email:")
        assert found.response is not None
        assert found.response_bytes == len(answer.body)
        assert found.hidden["email"] >= 1
        assert found.hidden["employee"] >= 1
        plain = repr(found)
        for secret in SECRETS:
            assert secret not in plain
            assert secret.encode() not in raw(rig)

    run(work)


def test_no_planted_secret_is_in_any_stored_byte_wherever_a_client_puts_it(rig: Rig) -> None:
    secret, number = "carol.hidden@example.org", 5555555555554444

    async def work() -> None:
        bodies = [
            {secret: 1},
            {"a": {"b": [[{"c": f"x {secret}, y"}]]}},
            {"n": number, "m": [number, 1.5]},
            {"id": secret, "inputs": [secret, str(number)]},
            {"text": f'{{"inner": "{secret}"}}'},
            {"text": f"refuse:invalid_input {secret}"},
            {"text": f"chunks:3 {secret}", "stream": True},
        ]
        for number_, body in enumerate(bodies):
            await ask(rig, "POST", "/v2/models/all/infer", json.dumps(body).encode(), x_request_id=f"planted-{number_}")
            escaped = json.dumps(body).replace("@", "\\u0040").encode()
            await ask(rig, "POST", "/v2/models/all/infer", escaped, x_request_id=f"escaped-{number_}")
        await infer(rig, "all", "x", f"planted-by-id-{secret}")
        await ask(rig, "POST", "/v2/models/all/infer", f"no JSON, {secret}".encode(), x_request_id="planted-text")
        await infer(rig, "all", "x", "planted-last")
        one(rig, "all", "planted-last")
        found = kept(rig, "all")
        assert sum(record.id.startswith(("planted", "escaped", "<email:")) for record in found) == 2 * len(bodies) + 3
        plain = repr(found)
        assert secret not in plain
        assert str(number) not in plain
        assert b"carol" not in raw(rig)
        assert "carol.hidden" not in plain

    run(work)


def test_what_lies_on_the_disk_is_for_the_owner_alone_and_cannot_be_read_without_the_key(rig: Rig) -> None:
    async def work() -> None:
        await infer(rig, "all", "a word that would be found", "sealed-1")
        one(rig, "all", "sealed-1")
        files = [path for path in rig.home.samples.rglob("*") if path.is_file()]
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
        assert b"a word that would be found" not in raw(rig)
        assert b"sealed-1" not in raw(rig)
        (path, *_) = (rig.home.samples / "default" / "all").glob("*.seg")
        assert list(segments.read(path, bytes(32))) == []

    run(work)


def test_errors_are_kept_where_nothing_is_drawn(rig: Rig) -> None:
    async def work() -> None:
        assert (await infer(rig, "errors", "fine", "fine-1")).status == 200
        failed = await infer(rig, "errors", f"refuse:invalid_input {TEXT}", "failed-1")
        assert failed.status == 400
        found = one(rig, "errors", "failed-1")
        assert (found.status, found.code, found.reasons) == (400, "invalid_input", ("error",))
        assert found.request is not None
        assert found.response is None
        assert [record.id for record in kept(rig, "errors")] == ["failed-1"]

    run(work)


def test_slow_requests_are_kept_where_nothing_is_drawn(rig: Rig) -> None:
    async def work() -> None:
        for number in range(1000):
            began_s = time.monotonic()
            await infer(rig, "slow", "quick", f"quick-{number}")
            if time.monotonic() - began_s < 0.2:  # else it may have been slow
                break
        await infer(rig, "slow", "slow:0.3", "slow-1")
        found = one(rig, "slow", "slow-1")
        assert found.reasons == ("slow",)
        assert found.took_s >= 0.3
        assert found.response is not None, "its answer too"
        assert found.response_bytes > 0
        assert not kept(rig, "slow", id=f"quick-{number}")

    run(work)


def test_what_its_caller_flags_is_kept_with_its_answer_and_the_word_hides_whom_it_names(rig: Rig) -> None:
    async def work() -> None:
        await infer(rig, "none", "nothing special", "unflagged-1")
        await infer(rig, "none", "x", "flagged-1", x_stoker_flag="dora.hidden@example.com complained")
        found = one(rig, "none", "flagged-1")
        assert (found.reasons, found.response is not None) == (("flagged",), True)
        assert found.flag.startswith("<email:")
        assert found.flag.endswith(" complained")
        assert [record.id for record in kept(rig, "none")] == ["flagged-1"]

    run(work)


def test_a_stream_that_broke_off_is_kept_as_far_as_it_came_and_no_further_than_it_may(rig: Rig) -> None:
    async def say(text: str, request_id: str, timeout_ms: int = 1500) -> Answer:
        said = [{"role": "user", "content": text}]
        body = json.dumps({"model": "torn", "messages": said, "stream": True}).encode()
        more = {"x_request_id": request_id, "x_request_timeout_ms": f"{timeout_ms}"}
        return await ask(rig, "POST", "/v1/chat/completions", body, **more)

    async def work() -> None:
        await say("chunks:3", "whole-1", 60_000)
        told, _ = await asyncio.gather(say("chunks:900 every:0.4", "torn-1"), say("chunks:9000 every:0.004", "torn-2"))
        short, long = one(rig, "torn", "torn-1"), one(rig, "torn", "torn-2")
        assert short.reasons == long.reasons == ("error",)
        assert short.response["choices"][0]["content"] == "tok" * told.body.count(b'"content":"tok"')
        assert len(long.response["choices"][0]["content"]) <= 500 / len("tok")
        assert long.response_bytes > 500
        assert not kept(rig, "torn", id="whole-1")

    run(work)


def test_streams_that_may_yet_fail_are_heard_up_to_a_bound_together(tmp_path: Path) -> None:
    async def work() -> None:
        samples = Samples(tmp_path, KeyRing(tmp_path), 1 << 20, "gateway-0")
        heard = [samples.reserve(1 << 20) for _ in range(40)]
        assert heard == [True] * (HEARD_MAX_BYTES >> 20) + [False] * (40 - (HEARD_MAX_BYTES >> 20))
        samples.release(1 << 20)
        assert samples.reserve(1 << 20)
        assert not samples.reserve(1)
        await samples.close()

    asyncio.run(work())


def test_what_was_kept_goes_in_its_time_also_where_nothing_is_sampled_any_more(tmp_path: Path) -> None:
    writer = segments.Writer(tmp_path / "team" / "digits", "gateway-0-before-")
    writer.append(bytes(32), b"old", 60.0, time.time() - 2 * segments.HOUR_S)
    writer.append(bytes(32), b"new", 60.0, time.time())
    writer.close()

    async def work() -> None:
        samples = Samples(tmp_path, KeyRing(tmp_path), 1 << 20, "gateway-0")
        await asyncio.to_thread(until, lambda: len(segments.segments(tmp_path / "team" / "digits")) == 1, "one is gone")
        await samples.close()

    asyncio.run(work())
    (_, path), *_ = segments.segments(tmp_path / "team" / "digits")
    assert list(segments.read(path, bytes(32))) == [b"new"]


def test_an_answer_that_says_nothing_is_flagged_by_itself(rig: Rig) -> None:
    async def work() -> None:
        for text, request_id in (("chunks:5", "spoke-1"), ("chunks:1", "empty-1")):
            said = [{"role": "user", "content": text}]
            body = json.dumps({"model": "mute", "messages": said, "stream": True}).encode()
            assert (await ask(rig, "POST", "/v1/chat/completions", body, x_request_id=request_id)).status == 200
        found = one(rig, "mute", "empty-1")
        assert (found.reasons, found.flag) == (("flagged",), "empty answer")
        assert [record.id for record in kept(rig, "mute")] == ["empty-1"]

    run(work)


def test_the_draw_is_decided_by_the_id_alone(rig: Rig) -> None:
    async def work() -> None:
        names = [f"draw-{number}" for number in range(60)]
        for name in names:
            await infer(rig, "some", "x", name)
        wanted = {name for name in names if is_drawn(name, 0.5)}
        assert 10 < len(wanted) < 50
        until(lambda: {record.id for record in kept(rig, "some")} == wanted, "the drawn ones are kept, no others")

    run(work)


def test_a_stream_is_kept_as_the_text_it_told(rig: Rig) -> None:
    async def work() -> None:
        body = json.loads(rigs.chat(f"chunks:5 {TEXT}", stream=True)) | {"model": "talk"}
        answer = await ask(rig, "POST", "/v1/chat/completions", json.dumps(body).encode(), x_request_id="stream-1")
        assert answer.status == 200
        found = one(rig, "talk", "stream-1")
        assert found.stream
        assert found.first_token_s > 0
        assert found.response["choices"] == [{"index": 0, "content": "tok" * 5}]
        assert "alice" not in repr(found)

    run(work)


def test_an_answer_over_grpc_is_kept_too_and_raw_tensors_are_only_counted(rig: Rig) -> None:
    async def work() -> None:
        async with Service(rig) as service:
            metadata = (*AUTH, ("x-request-id", "grpc-1"))
            await service.stub.ModelInfer(request("hello", "all"), metadata=metadata, timeout=15.0)
        found = one(rig, "all", "grpc-1")
        assert found.method == "infer"
        assert found.request is not None
        raw_text = struct.pack("<I", 24) + b"alice.secret@example.com"
        head = json.dumps({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1],
                                       "parameters": {"binary_data_size": len(raw_text)}}]}).encode()  # fmt: skip
        headers = {"inference_header_content_length": str(len(head)), "x_request_id": "raw-1"}
        await ask(rig, "POST", "/v2/models/all/infer", head + raw_text, **headers)
        assert one(rig, "all", "raw-1").request["binary_bytes"] == len(raw_text)
        await ask(rig, "POST", "/v2/models/raw/infer", head + raw_text, **(headers | {"x_request_id": "raw-2"}))
        (tensor,) = one(rig, "raw", "raw-2").request["inputs"]
        assert tensor["data"][0].startswith("<email:")
        assert "parameters" not in tensor

    run(work)


def test_a_key_that_opted_out_is_never_kept(rig: Rig) -> None:
    async def work() -> None:
        private: str = rig.private  # type: ignore[attr-defined]
        await infer(rig, "all", TEXT, "private-1", key=private)
        await infer(rig, "all", "refuse:invalid_input", "private-2", key=private)
        await infer(rig, "all", "x", "after-private")
        one(rig, "all", "after-private")
        assert kept(rig, "all", id="private") == []
        assert all(record.key != "private" for record in kept(rig, "all"))

    run(work)


def test_where_only_requests_are_kept_no_answer_is(rig: Rig) -> None:
    async def work() -> None:
        await infer(rig, "asked", "x", "asked-1")
        found = one(rig, "asked", "asked-1")
        assert found.request is not None
        assert found.response is None

    run(work)


def test_of_what_is_too_large_only_the_size_is_kept(rig: Rig) -> None:
    async def work() -> None:
        await infer(rig, "small", "y" * 1000, "large-1")
        found = one(rig, "small", "large-1")
        assert found.request == {"bytes": found.request_bytes, "why": "larger than max_bytes"}
        body = json.loads(rigs.chat("big:100000"))
        assert body
        await infer(rig, "small", "big:100000", "large-2")
        assert one(rig, "small", "large-2").response == {"bytes": 100_000, "why": "larger than max_bytes"}

    run(work)


def test_an_hour_holds_what_it_may_and_the_rest_is_counted(rig: Rig) -> None:
    async def work() -> None:
        async with client(rig) as talk:
            body = json.dumps({"inputs": []}).encode()
            for number in range(30):
                await talk.request("POST", "/v2/models/few/infer", body, x_request_id=f"few-{number}")
        rest = 30 - int(await dropped(rig, "few", "hour"))
        until(lambda: len(kept(rig, "few")) == rest, "all but the dropped ones are kept")
        assert len(kept(rig, "few")) >= 2
        assert len(kept(rig, "few")) <= 4  # a tenth of the half for drawn ones, of 40, and what an hour's minutes fill

    run(work)


def test_endpoints_without_samples_leave_none(rig: Rig) -> None:
    async def work() -> None:
        assert (await infer(rig, "digits", TEXT, "plain-1")).status == 200
        await infer(rig, "all", "x", "after-plain")
        one(rig, "all", "after-plain")
        assert not (rig.home.samples / "default" / "digits").exists()

    run(work)


def test_what_a_killed_gateway_wrote_is_read_and_the_next_one_goes_on(rig: Rig) -> None:
    async def load(stop: asyncio.Event) -> int:
        number = 0
        while not stop.is_set():
            try:
                async with client(rig) as talk:
                    while not stop.is_set():
                        body = json.dumps({"inputs": [TEXT * 20]}).encode()
                        await talk.request("POST", "/v2/models/all/infer", body, x_request_id=f"kill-{number}")
                        number += 1
            except (OSError, asyncio.IncompleteReadError):
                return number
        return number

    async def work() -> None:
        stop = asyncio.Event()
        loads = [asyncio.create_task(load(stop)) for _ in range(4)]
        await asyncio.to_thread(until, lambda: len(kept(rig, "all", id="kill-")) > 5, "it writes")
        rig.kill("gateway-0")  # in the middle of writing
        stop.set()
        await asyncio.gather(*loads)
        before = len(kept(rig, "all", id="kill-"))
        assert before > 5
        await asyncio.to_thread(rig.start_gateway)
        assert (await infer(rig, "all", "x", "next-1")).status == 200
        one(rig, "all", "next-1")
        assert len(kept(rig, "all", id="kill-")) == before

    run(work)


def test_a_disk_that_cannot_be_written_drops_samples_and_no_requests(rig: Rig) -> None:
    async def work() -> None:
        folder = rig.home.samples / "default" / "errors"
        for path in folder.glob("*"):
            path.unlink()
        if folder.exists():
            folder.rmdir()
        folder.write_text("a file where the folder should be")
        try:
            answer = await infer(rig, "errors", "refuse:invalid_input", "unwritten-1")
            assert answer.status == 400
            while await dropped(rig, "errors", "disk") < 1:
                await asyncio.sleep(0.02)
        finally:
            folder.unlink()
        await infer(rig, "errors", "refuse:invalid_input", "written-1")
        await asyncio.to_thread(one, rig, "errors", "written-1")

    run(work)
