"""What callers say of their trace is read as W3C has it, and nothing they say is an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.protocol import tracecontext
from stoker.protocol.tracecontext import STATE_MAX_BYTES, Parent, read, read_state, trace_of, write

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("header", "is_sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-ff", True),  # flags of later levels are no reason to refuse
        (f"00-{TRACE}-{SPAN}-02", False),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", True),
    ],
)
def test_a_valid_parent_is_read(header: str, is_sampled: bool) -> None:
    assert read(header.encode()) == Parent(TRACE, SPAN, is_sampled)


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-1",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"cc-{TRACE}-{SPAN}-01.",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01",
    ],
)
def test_a_parent_that_is_wrong_is_none(header: str) -> None:
    assert read(header.encode()) is None


@pytest.mark.parametrize(
    ("state", "goes_on"),
    [
        ("vendor=abc", "vendor=abc"),
        ("rojo=00f067aa0ba902b7 ,\tcongo=t61rcWkgMzE,, ", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        ("tenant1@system=1,a*/_-=x y", "tenant1@system=1,a*/_-=x y"),
        ("a=1,a=2", ""),
        ("A=1", ""),
        ("a=", ""),
        ("a=b=c", ""),
        ("a", ""),
        ("a=\x01", ""),
        ("a=é", ""),
        (",".join(f"k{at}=v" for at in range(33)), ""),
        ("a=" + "v" * STATE_MAX_BYTES, ""),
    ],
)
def test_a_state_goes_on_whole_or_not_at_all(state: str, goes_on: str) -> None:
    assert read_state(state.encode()) == goes_on


@given(st.binary(max_size=700), st.binary(max_size=700))
def test_no_bytes_are_an_error_and_what_is_written_is_read(header: bytes, state: bytes) -> None:
    found = read(header, state)
    assert found is None or len(found.trace) == 32
    goes_on = read_state(state)
    assert read_state(goes_on.encode()) == goes_on
    assert "\r" not in goes_on
    assert "\n" not in goes_on


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_what_is_written_is_read(trace: int, span: int, is_sampled: bool) -> None:
    written = write(f"{trace:032x}", span, is_sampled=is_sampled)
    assert tracecontext.read(written.encode()) == Parent(f"{trace:032x}", f"{span:016x}", is_sampled)
    assert trace_of(written) == f"{trace:032x}"
