"""Triton's own gRPC client, unmodified, against the demo platform's classifier: sync, asynchronous and streaming."""

import asyncio
import os
import queue
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from sklearn.datasets import load_digits

from tests.whole.rig import WAIT_S, Platform, until

PICTURES, LABELS = load_digits(return_X_y=True)
ROWS = PICTURES[:32].astype(np.float32)


@pytest.fixture(scope="module")
def client(demo: Platform) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{demo.grpc_port}") as made:
        yield made


@pytest.fixture
def headers(demo: Platform) -> dict[str, str]:
    return {"authorization": f"Bearer {demo.key}"}


def pixels(rows: Any = ROWS) -> Any:
    tensor = triton.InferInput("pixels", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows)
    return tensor


def is_right(result: Any) -> bool:
    assert result.as_numpy("probabilities").shape == (32, 10)
    return bool((result.as_numpy("label").reshape(-1) == LABELS[:32]).mean() > 0.9)


def test_health_and_metadata_read_as_the_client_expects(client: Any, headers: dict[str, str]) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits", headers=headers)
    assert client.is_model_ready("digits", "1", headers=headers)
    assert not client.is_model_ready("nobody", headers=headers)
    assert client.get_server_metadata().name == "stoker"
    metadata = client.get_model_metadata("digits", headers=headers)
    assert [(each.name, each.datatype, list(each.shape)) for each in metadata.inputs] == [("pixels", "FP32", [-1, 64])]
    assert list(metadata.versions) == ["1"]
    config = client.get_model_config("digits", headers=headers).config
    assert (config.name, config.backend, config.input[0].data_type) == ("digits", "onnx", 11)
    index = client.get_model_repository_index(headers=headers)
    assert {"digits", "minilm", "smol"} <= {model.name for model in index.models}


def test_infer_gives_the_digit(client: Any, headers: dict[str, str]) -> None:
    wanted = [triton.InferRequestedOutput(name) for name in ("label", "probabilities")]
    before = client.get_inference_statistics("digits", headers=headers).model_stats[0].inference_count
    for compression in (None, "gzip", "deflate"):
        answer = client.infer(
            "digits", [pixels()], outputs=wanted, request_id="x", headers=headers, compression_algorithm=compression
        )
        assert answer.get_response().id == "x"
        assert is_right(answer)
    assert client.get_inference_statistics("digits", headers=headers).model_stats[0].inference_count >= before
    only = client.infer("digits", [pixels()], outputs=wanted[:1], headers=headers)
    assert [each.name for each in only.get_response().outputs] == ["label"]


def test_the_callback_and_the_stream_of_the_sync_client(client: Any, headers: dict[str, str]) -> None:
    got: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.async_infer("digits", [pixels()], lambda result, error: got.put((result, error)), headers=headers)
    result, error = got.get(timeout=WAIT_S)
    assert error is None
    assert is_right(result)
    client.start_stream(lambda result, error: got.put((result, error)), headers=headers)
    try:
        for at in range(5):
            client.async_stream_infer("digits", [pixels()], request_id=str(at), enable_empty_final_response=True)
        client.async_stream_infer("nobody", [pixels()], request_id="wrong")
        for at in range(5):
            result, error = got.get(timeout=WAIT_S)
            assert error is None
            assert result.get_response().id == str(at)
            assert result.get_response().parameters["triton_final_response"].bool_param
            assert is_right(result)
        result, error = got.get(timeout=WAIT_S)
        assert result is None
        assert "nobody" in error.message()
    finally:
        client.stop_stream()


def test_many_at_once_from_the_asynchronous_client(demo: Platform, headers: dict[str, str]) -> None:
    async def work() -> None:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{demo.grpc_port}") as client:
            answers = await asyncio.gather(*(client.infer("digits", [pixels()], headers=headers) for _ in range(64)))
            assert all(is_right(each) for each in answers)

    asyncio.run(work())


def test_a_wrong_input_a_wrong_key_and_a_short_deadline_are_told_by_status(
    demo: Platform, client: Any, headers: dict[str, str]
) -> None:
    wrong = triton.InferInput("picture", [1, 64], "FP32")
    wrong.set_data_from_numpy(np.zeros((1, 64), np.float32))
    with pytest.raises(triton.InferenceServerException, match="picture") as refused:
        client.infer("digits", [wrong], headers=headers)
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
    short = triton.InferInput("pixels", [2, 64], "FP32")
    short.set_data_from_numpy(np.zeros((2, 64), np.float32))
    short._raw_content = short._raw_content[:-4]
    with pytest.raises(triton.InferenceServerException, match=r"inputs\[0\].*508 bytes"):
        client.infer("digits", [short], headers=headers)
    # Other tests use keys before gateways know them, which counts as guessing; one that starts anew has forgotten it.
    for gateway in ("gateway-0", "gateway-1"):
        demo.kill(gateway)
    until(lambda: is_ready(client), "the gateways are back")
    with pytest.raises(triton.InferenceServerException, match="no valid key") as stranger:
        client.infer("digits", [pixels()], headers={"authorization": "Bearer stk_no"})
    assert stranger.value.status() == "StatusCode.UNAUTHENTICATED"


def is_ready(client: Any) -> bool:
    try:
        return bool(client.is_server_ready())
    except triton.InferenceServerException:
        return False


def test_the_how_to_page_does_what_it_shows(demo: Platform, tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "how-to" / "grpc.md").read_text()
    shown = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", page, re.DOTALL)
    assert len(shown) == 2
    (tmp_path / ".stoker").symlink_to(demo.home)
    for code, output in shown:
        argv = [sys.executable, "-c", code.replace(":8001", f":{demo.grpc_port}")]
        said = subprocess.check_output(argv, env={**os.environ, "HOME": str(tmp_path)}, text=True, timeout=WAIT_S)
        assert said == output
