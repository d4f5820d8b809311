"""What clients of both protocols get: the paths, their shapes, keys, errors."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway import rig as rigs
from tests.gateway.rig import OLD_KEY, TEAM_KEY, Rig, ask, chat, client, infer, run


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder: Path = tmp_path_factory.mktemp("protocols")
    with rigs.rig(folder, replicas=1, max_body_bytes=1 << 20) as made:
        yield made


def test_every_path_of_the_protocols_answers(rig: Rig) -> None:
    async def work() -> None:
        expected = {
            "/healthz": {"status": "ok"},
            "/readyz": {"status": "ready"},
            "/v2/health/live": {"live": True},
            "/v2/health/ready": {"ready": True},
            "/v2/models/digits/ready": {"name": "digits", "ready": True},
            "/v2/models/digits/versions/1/ready": {"name": "digits", "ready": True},
            "/v1/models/smol": {"id": "smol", "object": "model", "created": 1, "owned_by": "default"},
        }
        async with client(rig) as one:
            for path, body in expected.items():
                answer = await one.request("GET", path)
                assert (answer.status, answer.json) == (200, body), path
                assert answer.headers["x-request-id"]
            models = (await one.request("GET", "/v1/models")).json["data"]
            assert [model["id"] for model in models] == ["digits", "mini", "smol", "team/secret"]
            server = (await one.request("GET", "/v2")).json
            assert server["name"] == "stoker"
            metadata = (await one.request("GET", "/v2/models/digits/versions/1")).json
            assert metadata["versions"] == ["1"]
            assert metadata["inputs"][0]["shape"] == [-1, 64]
            config = (await one.request("GET", "/v2/models/digits/config")).json
            assert config["input"][0]["data_type"] == "TYPE_FP32"
            await one.request("POST", "/v2/models/digits/infer", b"{}")
            stats = (await one.request("GET", "/v2/models/digits/versions/1/stats")).json
            assert stats["model_stats"][0]["inference_count"] >= 1
            index = await one.request("POST", "/v2/repository/index", b"")
            assert {"name": "digits", "version": "1", "state": "READY"} in index.json

    run(work)


def test_an_inference_is_relayed_unread_both_ways_with_its_binary_header(rig: Rig) -> None:
    async def work() -> None:
        plain = await infer(rig, '{"inputs": []}')
        assert plain.body == b'{"inputs": []}'
        assert plain.headers["content-type"] == "application/json"
        body = b'{"a:":1}' + bytes(range(256)) * 4000
        headers = {"Inference_Header_Content_Length": "8"}
        binary = await ask(rig, "POST", "/v2/models/digits/versions/1/infer", body, **headers)
        assert binary.body == body
        assert binary.headers["inference-header-content-length"] == "8"
        assert binary.headers["content-type"] == "application/octet-stream"
        large = await infer(rig, "big:3000000 ")
        assert len(large.body) == 3_000_000

    run(work)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_bodies_are_inflated_within_the_limit(rig: Rig, coding: str) -> None:
    def pack(data: bytes) -> bytes:
        packer = zlib.compressobj(9, zlib.DEFLATED, 31 if coding == "gzip" else 15)
        return packer.compress(data) + packer.flush()

    async def work() -> None:
        path, headers = "/v2/models/digits/infer", {"content_encoding": coding}
        for data in (b'{"inputs":[]}', bytes(range(256)) * 4000):
            answer = await ask(rig, "POST", path, pack(data), **headers)
            assert answer.body == data
        bomb = await ask(rig, "POST", path, pack(b"0" * (64 << 20)), **headers)
        assert bomb.status == 413
        for broken in (b"nonsense", pack(b"cut off")[:-3], pack(b"x") + b"more"):
            answer = await ask(rig, "POST", path, broken, **headers)
            assert answer.status == 400
        assert (await ask(rig, "POST", path, b"x", content_encoding="br")).status == 400

    run(work)


def test_chat_streams_are_relayed_unchanged_and_end_properly(rig: Rig) -> None:
    async def work() -> None:
        async with client(rig) as one:
            for _ in range(2):  # the connection lives on
                answer = await one.request("POST", "/v1/chat/completions", chat("chunks:3", stream=True))
                assert answer.status == 200
                assert answer.headers["content-type"].startswith("text/event-stream")
                assert answer.headers["x-request-id"]
                assert answer.body.count(b"data: {") == 3
                assert answer.body.endswith(b"data: [DONE]\n\n")
            whole = await one.request("POST", "/v1/chat/completions", chat("hello"))
            assert whole.headers["content-type"] == "application/json"
            body = json.dumps({"model": "mini", "input": ["a"], "encoding_format": "base64"}).encode()
            assert (await one.request("POST", "/v1/embeddings", body)).status == 200

    run(work)


def test_the_head_and_the_first_piece_come_in_one_write(rig: Rig) -> None:
    async def work() -> None:
        async with client(rig) as one:
            one.send("POST", "/v1/chat/completions", chat("chunks:2 every:0.2", stream=True))
            first = await one.reader.read(65536)
            assert first.startswith(b"HTTP/1.1 200")
            assert b'data: {"id"' in first

    run(work)


def test_errors_have_their_protocols_shape_and_name_the_field(rig: Rig) -> None:
    chat_path, infer_path = "/v1/chat/completions", "/v2/models/digits/infer"
    cases: list[tuple[str, str, bytes | None, dict[str, str], int, str | None]] = [
        ("POST", chat_path, b"{", {}, 400, None),
        ("POST", chat_path, b"\xff", {}, 400, None),
        ("POST", chat_path, b'{"model":"smol","messages":[{"role":"me"}]}', {}, 400, "messages[0].role"),
        ("POST", chat_path, b'{"model":"smol","more":' + b"[" * 5000, {}, 400, None),
        ("POST", chat_path, b'{"model":"nope","messages":[{"role":"user"}]}', {}, 404, "model"),
        ("POST", chat_path, b'{"model":"digits","messages":[{"role":"user"}]}', {}, 400, "model"),
        ("GET", chat_path, None, {}, 405, None),
        ("GET", "/v1/models/nope", None, {}, 404, "model"),
        ("GET", "/v1/nope", None, {}, 404, None),
        ("POST", chat_path, chat("x"), {"x_request_timeout_ms": "soon"}, 400, "x-request-timeout-ms"),
        ("POST", infer_path, b"{}", {"Inference_Header_Content_Length": "3"}, 400, None),
        ("POST", infer_path, b"{}", {"Inference_Header_Content_Length": "x"}, 400, None),
        ("POST", "/v2/models/nope/infer", b"{}", {}, 404, None),
        ("POST", "/v2/models/digits/versions/9/infer", b"{}", {}, 404, None),
        ("POST", "/v2/models/smol/infer", b"{}", {}, 400, None),
        ("GET", "/v2/models/digits/nope", None, {}, 404, None),
        ("GET", "/v2/models/%ff", None, {}, 400, None),
        ("DELETE", "/v2", None, {}, 405, None),
        ("POST", infer_path, b"refuse:engine_failed", {}, 500, None),
    ]

    async def work() -> None:
        async with client(rig) as one:
            for method, path, body, headers, status, param in cases:
                answer = await one.request(method, path, body, **headers)
                assert answer.status == status, (path, body, answer.body)
                assert answer.headers["x-request-id"]
                if path.startswith("/v2"):
                    assert isinstance(answer.json["error"], str)
                    continue
                error = answer.json["error"]
                assert set(error) == {"message", "type", "param", "code"}
                assert error["param"] == param, answer.body
            failed = await one.request("POST", infer_path, b"refuse:engine_failed")
            assert failed.headers["x-should-retry"] == "false"

    run(work)


def test_keys_open_only_what_is_theirs_and_all_refusals_look_alike(rig: Rig) -> None:
    async def work() -> None:
        path = "/v2/models/secret/infer"
        assert (await ask(rig, "POST", path, b"{}", key=TEAM_KEY)).status == 200
        assert (await ask(rig, "POST", path, b"{}", key=None, x_api_key=TEAM_KEY)).status == 200
        assert (await ask(rig, "POST", "/v2/models/team%2Fsecret/infer", b"{}")).status == 200
        assert (await ask(rig, "POST", path, b"{}", x_stoker_project="team")).status == 200
        foreign = await ask(rig, "POST", "/v2/models/digits/infer", b"{}", key=TEAM_KEY)
        unknown = await ask(rig, "POST", "/v2/models/dxgits/infer", b"{}", key=TEAM_KEY)
        assert foreign.status == unknown.status == 404
        assert foreign.body.replace(b"digits", b"") == unknown.body.replace(b"dxgits", b"")
        assert (await ask(rig, "GET", "/v1/models", key=TEAM_KEY, x_stoker_project="default")).status == 403
        own = (await ask(rig, "GET", "/v1/models", key=TEAM_KEY)).json["data"]
        assert [model["id"] for model in own] == ["secret"]
        refused = [await infer(rig, "{}", key=key) for key in (None, "stk_nobody", OLD_KEY, "", "x" * 9000)]
        assert {answer.status for answer in refused} == {401}
        assert len({answer.body for answer in refused}) == 1
        assert refused[0].headers["www-authenticate"] == "Bearer"

    run(work)


def test_a_sane_request_id_is_kept_and_an_odd_one_replaced(rig: Rig) -> None:
    async def work() -> None:
        assert (await infer(rig, "{}", x_request_id="mine-1")).headers["x-request-id"] == "mine-1"
        for odd in ("with space", "x" * 129, "tab\tbed"):
            assert (await infer(rig, "{}", x_request_id=odd)).headers["x-request-id"].startswith("req-")
        await infer(rig, "slow:0 seen", x_request_id="mine-2")
        assert any("mine-2" in line for line in rig.lines("r0"))

    run(work)


def test_metrics_count_requests_by_code_and_tokens(rig: Rig) -> None:
    async def work() -> None:
        await ask(rig, "POST", "/v1/chat/completions", chat("chunks:4", stream=True))
        while True:  # connections of a moment ago are gone; bounded by run
            text = (await ask(rig, "GET", "/metrics", key=None)).body.decode()
            if 'stoker_gateway_connections{process="gateway-0"} 1\n' in text:
                break
        assert 'stoker_requests_total{project="default",endpoint="digits",revision="default.digits-1"' in text
        assert 'kind="output"' in text
        assert "stoker_time_to_first_token_seconds_count" in text

    run(work)


def test_what_replicas_report_of_their_engine_calls_is_counted_once(rig: Rig) -> None:
    async def work() -> None:
        for body in ("report: slow:0", "slow:0", "report: slow:0"):
            assert (await infer(rig, body)).status == 200
        text = (await ask(rig, "GET", "/metrics", key=None)).body.decode()
        label = '{project="default",endpoint="digits",revision="default.digits-1"'
        for line in (
            f'stoker_engine_calls_total{label},because="queue"}} 4',
            f'stoker_engine_calls_total{label},because="shed"}} 2',
            f'stoker_padded_values_total{label},kind="input"}} 140',
            f'stoker_padded_values_total{label},kind="padding"}} 60',
        ):
            assert line in text

    run(work)


def test_a_deadline_that_a_replica_cannot_make_is_a_504_that_says_when_to_come_back(rig: Rig) -> None:
    async def work() -> None:
        answer = await infer(rig, "refuse:deadline_exceeded")
        assert (answer.status, answer.headers["retry-after"]) == (504, "3")
        assert (await infer(rig, "slow:5", x_request_timeout_ms="50")).status == 504  # the gateway's own: not dropped
        text = (await ask(rig, "GET", "/metrics", key=None)).body.decode()
        assert 'stoker_dropped_total{project="default",endpoint="digits",revision="default.digits-1"} 1' in text
        busy = await infer(rig, "refuse:busy", x_request_timeout_ms="2000")  # less than it would have to wait
        assert (busy.status, busy.headers["retry-after"]) == (429, "3")
        assert isinstance(busy.json["error"], str)
        assert busy.headers["x-request-id"]

    run(work)
