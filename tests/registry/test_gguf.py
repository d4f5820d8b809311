import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.registry.gguf import GgufHeader, read_header
from stoker.types.errors import RefusedArtifact
from tests.registry.rig import METADATA, gguf, pair


def header(data: bytes) -> GgufHeader:
    return read_header(io.BufferedReader(io.BytesIO(data)), len(data))  # type: ignore[arg-type]


def test_the_header_says_what_the_model_is() -> None:
    found = header(gguf())
    assert (found.architecture, found.context_tokens, found.vocabulary) == ("llama", 128, 3)
    assert (found.tensors, found.parameters, found.quantization) == (1, 8, "F32")
    assert found.chat_template == "{{ messages }}"


def test_what_is_not_said_is_empty() -> None:
    found = header(gguf({}))
    assert (found.architecture, found.context_tokens, found.vocabulary, found.chat_template) == ("", 0, 0, "")


@pytest.mark.parametrize("cut", [0, 3, 8, 20, 23, 40, 100, 200, 300])
def test_a_header_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(RefusedArtifact, match=r"ends inside its header|not a GGUF|cut short"):
        header(gguf()[:cut])


def test_weights_cut_short_are_refused_with_how_much_is_missing() -> None:
    with pytest.raises(RefusedArtifact, match="cut short: its tensors need 1 bytes more"):
        header(gguf()[:-1])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"PK\x03\x04" + bytes(100), "not a GGUF"),
        (gguf(version=1), "version 1"),
        (gguf(version=0x03000000), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0), "claims"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60), "claims"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**62), "a text of"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair("k", "v")[:9] + struct.pack("<I", 77), "unknown type 77"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair("k", "v")[:9] + struct.pack("<IIQ", 9, 0, 2**50), "claims"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + pair("k", "v")[:9] + struct.pack("<IIQ", 9, 9, 1), "unknown type 9"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + pair("k", "v") * 2, "twice"),
        (gguf(METADATA | {"general.alignment": 7}), "power of two"),
    ],
)
def test_a_header_that_cannot_be_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(RefusedArtifact, match=said):
        header(data)


@settings(max_examples=200)
@given(data=st.binary(max_size=300), at=st.integers(0, 400), keep=st.booleans())
def test_any_bytes_are_a_header_or_refused(data: bytes, at: int, keep: bool) -> None:
    good = gguf()
    mangled = good[:at] + data + (good[at + len(data) :] if keep else b"")
    try:
        found = header(mangled)
    except RefusedArtifact:
        return
    assert found.tensors >= 0
