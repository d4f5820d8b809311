"""The page of the documentation with every bound that a client of the data plane can meet, from the code itself."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from stoker.gateway import relay, router
from stoker.gateway.directory import KEY_MAX_BYTES
from stoker.gateway.http import incoming, known, server, tls
from stoker.gateway.http.connection import LINGER_BYTES, WRITE_HIGH_BYTES, Limits
from stoker.gateway.layers.deadline import TIMEOUT_MAX_S
from stoker.gateway.rpc import bounds
from stoker.protocol import frames
from stoker.protocol.oip_grpc import TYPED_VALUES_MAX
from stoker.types.routes import EndpointRoute
from stoker.types.units import format_bytes

Row = tuple[str, str, str, str]  # what, how much, what the client sees past it, what changes it

FIXED: Final = "–"
CLOSED: Final = "the connection is closed"
LARGE: Final = "413 `body_too_large`"
SLOW: Final = "408 `client_too_slow`"
FULL: Final = "503 `unavailable`"
EXHAUSTED: Final = "`RESOURCE_EXHAUSTED`"


def page(limits: Limits, more: Mapping[str, Sequence[Row]]) -> str:
    """Return the page; more: what others have to tell, by title."""
    parts = [
        "# Limits",
        "",
        "What one client can make a gateway do, take and wait for. All of it holds in each gateway process, with and",
        "without TLS. Then what rollouts and releases may keep, wait for and take. What has no setting is fixed.",
    ]
    titles: dict[str, Sequence[Row]] = {
        "Connections": _connections(limits),
        "Requests": _requests(limits),
        "Answers": _answers(limits),
        "gRPC": _grpc(limits),
        **more,
    }
    for title, rows in titles.items():
        parts += ["", f"## {title}", "", "| what | limit | past it | changed by |", "|---|---|---|---|"]
        parts += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(parts) + "\n"


def _connections(limits: Limits) -> list[Row]:
    head, kept = _seconds(limits.head_s), f"{server.OTHER_FILES} of them are kept for the rest"
    told = f"{FULL}; past {server.TOLD_MAX} of these, {CLOSED}"
    return [
        ("of a process", str(limits.connections_max), told, f"the limit of open files, if lower: {kept}"),
        (
            "from one address (of IPv6, one /64)",
            str(limits.per_address_max),
            f"429 `busy`; past {server.TOLD_PER_ADDRESS_MAX} of these, {CLOSED}",
            "`STOKER_CONNECTIONS_PER_ADDRESS`",
        ),
        ("not yet accepted", str(server.BACKLOG), "the connect waits", "`net.core.somaxconn`, if lower"),
        ("until the first byte of a request, the TLS handshake included", head, CLOSED, FIXED),
        ("idle between requests", _seconds(limits.idle_s), CLOSED, FIXED),
        ("a refused sender is read on for", _seconds(limits.linger_s), CLOSED, FIXED),
        ("… or", format_bytes(LINGER_BYTES), CLOSED, FIXED),
        ("until a renewed certificate is shown", _seconds(tls.LOOK_EVERY_S), "the old one", FIXED),
    ]


def _requests(limits: Limits) -> list[Row]:
    bodies = {field.name: field.default for field in msgspec.structs.fields(EndpointRoute)}["max_body_bytes"]
    pace = f"{format_bytes(limits.bytes_per_s)} a second, after {_seconds(limits.body_grace_s)}"
    return [
        ("a head, and its headers with all trailers", format_bytes(incoming.HEAD_MAX_BYTES), LARGE, FIXED),
        ("headers and trailers", str(incoming.HEADERS_MAX), LARGE, FIXED),
        ("the last head, kept by a connection", format_bytes(known.HEAD_MAX_BYTES), "it is parsed each time", FIXED),
        ("from a head's first byte to its last", _seconds(limits.head_s), SLOW, FIXED),
        ("a path", format_bytes(router.PATH_MAX_BYTES), "400 `invalid_input`", FIXED),
        ("a key", format_bytes(KEY_MAX_BYTES), "401 `unauthenticated`", FIXED),
        ("a body, as it comes and decompressed", format_bytes(bodies), LARGE, "the endpoint's `limits.max_body`"),
        ("a body comes at no less than", pace, SLOW, FIXED),
        ("framing of chunks, or trailers, without body", format_bytes(incoming.FRAMING_MAX_BYTES), LARGE, FIXED),
        ("bodies that a process holds together", format_bytes(limits.bodies_max_bytes), FULL, FIXED),
        ("pipelined requests worked on", "1", "the others wait, unread", FIXED),
        ("`x-request-timeout-ms`", _seconds(TIMEOUT_MAX_S), "this limit counts", FIXED),
    ]


def _answers(limits: Limits) -> list[Row]:
    pace = f"{format_bytes(limits.bytes_per_s)} a second, after {_seconds(limits.stall_grace_s)}"
    held = format_bytes(WRITE_HIGH_BYTES + frames.WINDOW_BYTES)
    return [
        ("an answer that is not streamed", format_bytes(relay.ANSWER_MAX_BYTES), "500 `engine_failed`", FIXED),
        ("an answer is read at no less than", pace, CLOSED, FIXED),
        ("of a stream that is not read, held", held, "no more is fetched", FIXED),
        ("a stream stays silent for", _seconds(relay.PING_AFTER_S), "a comment, `: ping`", FIXED),
    ]


def _grpc(limits: Limits) -> list[Row]:
    anew = "the client connects anew; what runs goes on"
    return [
        ("connections of a process", str(limits.connections_max), CLOSED, FIXED),
        ("a connection's first bytes, the TLS handshake included", _seconds(limits.head_s), CLOSED, FIXED),
        ("calls of a connection at once", str(bounds.STREAMS_MAX), "the others wait in the client", FIXED),
        ("calls of a process at once", str(bounds.CALLS_MAX), EXHAUSTED, FIXED),
        ("metadata of a call", format_bytes(bounds.METADATA_BYTES), EXHAUSTED, FIXED),
        ("a message, before its endpoint is known", format_bytes(bounds.MESSAGE_MAX_BYTES), EXHAUSTED, FIXED),
        ("a message, decompressed", "as a body", EXHAUSTED, "the endpoint's `limits.max_body`"),
        ("values of typed contents in a request", str(TYPED_VALUES_MAX), EXHAUSTED, FIXED),
        ("requests of one stream ahead of its answers", str(bounds.STREAM_AHEAD_MAX), "it is read no further", FIXED),
        ("a connection without calls", _seconds(bounds.IDLE_S), anew, FIXED),
        ("a connection", _seconds(bounds.AGE_S), anew, FIXED),
        ("a ping after silence, and its answer", f"{bounds.PING_AFTER_S} s, {bounds.PONG_WITHIN_S} s", CLOSED, FIXED),
        ("between pings of a client", _seconds(bounds.CLIENT_PING_S), CLOSED, FIXED),
    ]


def _seconds(value: float) -> str:
    return f"{value:g} s"
