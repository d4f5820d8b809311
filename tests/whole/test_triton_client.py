"""Triton's own HTTP client, unmodified, against the demo platform's classifier."""

from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.http as triton
from sklearn.datasets import load_digits

from tests.whole.rig import WAIT_S, Platform

pytestmark = pytest.mark.filterwarnings("ignore")  # gevent's own


@pytest.fixture
def client(demo: Platform) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{demo.port}", concurrency=4, network_timeout=WAIT_S) as made:
        yield made


def headers(demo: Platform) -> dict[str, str]:
    return {"Authorization": f"Bearer {demo.key}"}


def test_health_and_metadata_read_as_the_client_expects(demo: Platform, client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits", headers=headers(demo))
    assert client.is_model_ready("digits", "1", headers=headers(demo))
    assert not client.is_model_ready("nobody", headers=headers(demo))
    assert client.get_server_metadata(headers=headers(demo))["name"] == "stoker"
    metadata = client.get_model_metadata("digits", headers=headers(demo))
    assert metadata["inputs"] == [{"name": "pixels", "datatype": "FP32", "shape": [-1, 64]}]
    assert metadata["versions"] == ["1"]
    assert client.get_model_config("digits", headers=headers(demo))["name"] == "digits"
    assert "digits" in {model["name"] for model in client.get_model_repository_index(headers=headers(demo))}


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_infer_gives_the_digit_in_every_encoding(
    demo: Platform, client: triton.InferenceServerClient, binary_in: bool, binary_out: bool, compression: str | None
) -> None:
    pictures, labels = load_digits(return_X_y=True)
    rows = pictures[:32].astype(np.float32)
    pixels = triton.InferInput("pixels", list(rows.shape), "FP32")
    pixels.set_data_from_numpy(rows, binary_data=binary_in)
    wanted = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("label", "probabilities")]
    answer = client.infer(
        "digits",
        [pixels],
        outputs=wanted,
        request_id="seven",
        headers=headers(demo),
        request_compression_algorithm=compression,
    )
    assert answer.get_response()["id"] == "seven"
    assert answer.as_numpy("probabilities").shape == (32, 10)
    assert (answer.as_numpy("label").reshape(-1) == labels[:32]).mean() > 0.9


def test_a_wrong_input_is_an_error_that_names_it(demo: Platform, client: triton.InferenceServerClient) -> None:
    wrong = triton.InferInput("picture", [1, 64], "FP32")
    wrong.set_data_from_numpy(np.zeros((1, 64), np.float32))
    with pytest.raises(triton.InferenceServerException, match="picture"):
        client.infer("digits", [wrong], headers=headers(demo))
