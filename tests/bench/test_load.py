"""The load generators measure a real server: what it answers, what it refuses, and how late it is."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from bench import load
from bench.client import answer_size, request_bytes
from bench.direct import Http
from bench.load import Load
from bench.predict import body_for
from bench.servers import Contender, Server


@pytest.fixture(scope="module")
def hello() -> Iterator[Contender]:
    with Server("hello", "bench.baselines.hello") as server:
        yield server.contender("/")


def test_a_request_is_whole_and_an_answer_is_measured() -> None:
    request = request_bytes("http://127.0.0.1:8000/v1/x", [["Authorization", "Bearer k"]], b"{}")
    assert request == (
        b"POST /v1/x HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Length: 2\r\nAuthorization: Bearer k\r\n\r\n{}"
    )
    answer = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\nx: y\r\n\r\nhello"
    assert answer_size(answer + b"HTTP/1.1") == len(answer)
    assert answer_size(answer[:20]) is None
    with pytest.raises(ValueError, match="Content-Length"):
        answer_size(b"HTTP/1.1 200 OK\r\n\r\n")


@pytest.mark.parametrize("rate", [0.0, 200.0])
def test_the_own_client_counts_answers_in_both_loops(hello: Contender, rate: float) -> None:
    sample = load.run(hello, Load(b"{}", 4, 0.5, rate), use_wrk=False)
    assert sample.errors == 0
    assert sample.requests > 10
    assert 0 < sample.p50_s <= sample.p99_s
    assert sample.cpu_s >= 0
    if rate:
        assert sample.requests < 200


def test_nobody_there_is_a_failure_and_not_a_rate_of_zero(hello: Contender) -> None:
    with pytest.raises(RuntimeError, match="failed"):
        load.run(Contender("nobody", "http://127.0.0.1:1/", ()), Load(b"{}", 1, 0.2), use_wrk=False)


def test_a_bench_of_errors_is_refused(digits_model: str) -> None:
    with (
        Server("fastapi", "bench.baselines.fastapi_onnx", digits_model) as server,
        pytest.raises(RuntimeError, match="errors"),
    ):
        load.warm_up(server.contender("/nowhere"), Load(b"{}", 1, 1.0), 1.0)


def test_a_server_that_does_not_start_says_so() -> None:
    with pytest.raises(RuntimeError, match="did not start"):
        Server("broken", "bench.baselines.fastapi_onnx")


def test_the_blocking_client_times_one_request_and_refuses_a_bad_answer(hello: Contender, digits_model: str) -> None:
    client = Http(hello.url, (), b"{}")
    began_s = time.perf_counter()
    assert 0 < client.once() <= time.perf_counter() - began_s
    client.close()
    with Server("fastapi", "bench.baselines.fastapi_onnx", digits_model) as server:
        refused = Http(server.contender("/nowhere").url, (), b"{}")
        with pytest.raises(RuntimeError, match="404"):
            refused.once()
        refused.close()


def test_the_written_baseline_answers_as_the_protocol_says(digits_model: str) -> None:
    with Server("fastapi", "bench.baselines.fastapi_onnx", digits_model) as server:
        request = Request(server.contender("/v2/models/digits/infer").url, data=body_for(Path(digits_model)))
        with urlopen(request, timeout=10) as answer:
            outputs = {output["name"]: output for output in json.load(answer)["outputs"]}
    assert outputs["label"]["data"] == [0]
