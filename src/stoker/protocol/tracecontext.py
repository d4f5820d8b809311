"""What callers say of their trace: W3C Trace Context, read strictly and written back. Pure.

    traceparent: 00-<32 hex digits: trace>-<16: span>-<2: flags>        tracestate: vendor=value,vendor=value

Source: https://www.w3.org/TR/trace-context-2/. Nothing here is ever an error: whoever sends a header that is wrong, too
long or there twice is served as if he had sent none. A version after 00 is read as 00 as far as 00 goes.
"""

import re
from typing import Final

import msgspec

SAMPLED: Final = 1  # the flag
STATE_MAX_BYTES: Final = 512  # what the specification asks everybody to pass on at least; longer is dropped, whole
STATE_MEMBERS_MAX: Final = 32

_SPAN_MAX: Final = (1 << 64) - 1
_PARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?")
_MEMBER: Final = re.compile(
    rb"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    rb"=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
)


class Parent(msgspec.Struct, frozen=True):
    """Where a caller stands in his trace. `state` is the tracestate as it goes on, "" for none."""

    trace: str
    span: str
    is_sampled: bool
    state: str = ""


def read(parent: bytes, state: bytes = b"") -> Parent | None:
    """Return what the two headers say; None when `parent` is no traceparent."""
    found = _PARENT.fullmatch(parent)
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more) or not trace.strip(b"0") or not span.strip(b"0"):
        return None
    return Parent(trace.decode(), span.decode(), bool(int(flags, 16) & SAMPLED), read_state(state) if state else "")


def read_state(state: bytes) -> str:
    """Return a tracestate that may go on; "" when any of it is wrong, as the specification has it."""
    if len(state) > STATE_MAX_BYTES:
        return ""
    members = [member for each in state.split(b",") if (member := each.strip(b" \t"))]
    keys = {member.partition(b"=")[0] for member in members}
    if len(members) > STATE_MEMBERS_MAX or len(keys) != len(members) or not all(map(_MEMBER.fullmatch, members)):
        return ""
    return b",".join(members).decode()


def write(trace: str, span: int, *, is_sampled: bool) -> str:
    """Return the traceparent that says: `trace` goes on from `span`."""
    return "00-%s-%016x-%s" % (trace, span & _SPAN_MAX, "01" if is_sampled else "00")  # noqa: UP031 - half the time


def lines(parent: str, state: str) -> bytes:
    """Return the two as complete header lines of HTTP; b"" without a parent."""
    if not parent:
        return b""
    after = f"tracestate: {state}\r\n" if state else ""
    return f"traceparent: {parent}\r\n{after}".encode()


def trace_of(parent: str) -> str:
    """Return the trace id in a traceparent of ours, "" where there is none."""
    return parent[3:35]
