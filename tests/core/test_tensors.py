"""Raw tensors as the JSON that means the same: against numpy, and against whatever a client may send."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import kept, tensors
from stoker.core.pseudonyms import Pseudonyms
from stoker.protocol.oip_binary import DTYPES


def head(datatype: str, size: int, **more: Any) -> dict[str, Any]:
    return {
        "inputs": [{"name": "x", "datatype": datatype, "shape": [2], "parameters": {"binary_data_size": size, **more}}]
    }


@pytest.mark.parametrize("datatype", [name for name in DTYPES if name != "BYTES"])
def test_every_numeric_type_reads_as_numpy_does(datatype: str) -> None:
    array = np.array([0, 1, 1], dtype=DTYPES[datatype])
    raw = array.tobytes()
    made = tensors.plain(head(datatype, len(raw)), raw)
    assert made["inputs"][0] == {"name": "x", "datatype": datatype, "shape": [2], "data": array.tolist()}


def test_other_parameters_and_tensors_in_json_stay() -> None:
    told = head("UINT8", 1, classification=3)
    told["inputs"].append({"name": "y", "datatype": "INT8", "shape": [1], "data": [5]})
    made = tensors.plain(told, b"\x07")
    assert made["inputs"][0]["parameters"] == {"classification": 3}
    assert made["inputs"][1] == told["inputs"][1]


@given(st.text(max_size=20), st.lists(st.text(max_size=10), max_size=5))
def test_texts_are_read_whole(one: str, others: list[str]) -> None:
    texts = [one, *others]
    raw = b"".join(len(text.encode()).to_bytes(4, "little") + text.encode() for text in texts)
    assert tensors.plain(head("BYTES", len(raw)), raw)["inputs"][0]["data"] == texts


@given(
    st.sampled_from(["BYTES", "FP32", "INT64", "BF16", "", None, 5]),
    st.integers(-5, 60) | st.none() | st.booleans() | st.text(max_size=2),
    st.binary(max_size=40),
)
def test_whatever_a_client_sends_is_read_or_refused(datatype: Any, size: Any, raw: bytes) -> None:
    try:
        made = tensors.plain(head(datatype, size), raw)
    except tensors.NotRaw:
        return
    json.dumps(made)


@pytest.mark.parametrize("told", [None, [], 5, {"inputs": 5}, {"inputs": [5, None]}, {}])
def test_what_is_no_request_is_refused_or_stays(told: Any) -> None:
    with pytest.raises(tensors.NotRaw):
        tensors.plain(told, b"left over")


def test_numbers_that_json_has_not_are_kept_as_nothing() -> None:
    raw = np.array([1.5, np.nan, np.inf], dtype="<f4").tobytes()
    data = json.dumps(head("FP32", len(raw))).encode()
    names = Pseudonyms(bytes(32))
    found = kept.body(data + raw, names, header_bytes=len(data), bytes_max=1000, with_tensors=True)
    assert msgspec.json.decode(msgspec.json.encode(found))["inputs"][0]["data"] == [1.5, None, None]


def test_a_body_that_lies_about_its_tensors_is_only_counted() -> None:
    data = json.dumps(head("FP32", 400)).encode()
    found = kept.body(data + b"abcd", Pseudonyms(bytes(32)), header_bytes=len(data), bytes_max=1000, with_tensors=True)
    assert found["binary_bytes"] == 4
