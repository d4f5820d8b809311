"""What is kept of one request that left a trace. Spans are made of it when somebody asks (telemetry/spans.py).

It holds names, ids, times and counts, never what was asked or answered.
"""

import msgspec

from stoker.types.replica import Timings, Usage


class Try(msgspec.Struct, frozen=True, omit_defaults=True):
    """One try at one replica, or an endpoint that gave the request up without one (`replica` is "" then).

    number: tells its span: that of the request plus this. kind: first, retry, hedge, migration or fallback. Times are
    seconds from the request's beginning. outcome: ok, lost (another was quicker), cancelled, or an error's code.
    """

    number: int
    kind: str
    endpoint: str
    begin_s: float
    end_s: float
    outcome: str
    replica: str = ""
    revision: str = ""


class Trace(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One request.

    Times are seconds from its beginning unless they say `at`; 0: it did not come so far. `waited_s` is a length: in the
    queue, before the last try. `timings` and `usage` are the replica's own account.
    """

    id: str  # 32 hex digits
    span: str  # 16 hex digits: of the request
    parent: str = ""  # the caller's span
    state: str = ""  # the caller's tracestate
    request: str
    because: str  # why it was kept: core.tracing.Because
    gateway: str = ""
    project: str = ""
    endpoint: str = ""
    served_by: str = ""  # another endpoint, if one answered
    revision: str = ""
    version: str = ""
    method: str  # as in RequestHead
    tenant: str = ""
    status: int
    code: str = ""  # of an error
    is_stream: bool = False
    max_tokens: int = 0
    began_at_s: float  # unix
    seconds: float
    arrived_s: float = 0.0
    known_s: float = 0.0
    admitted_s: float = 0.0
    waited_s: float = 0.0
    first_byte_s: float = 0.0
    tries: tuple[Try, ...] = ()
    timings: Timings | None = None
    usage: Usage | None = None


class TraceQuestion(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is asked of a gateway's kept traces; "" and False: whatever it is.

    id: of a trace or a request. With `boot` and `after` of the answer before, only what came since, oldest first;
    without, newest first.
    """

    id: str = ""
    project: str = ""
    endpoint: str = ""
    is_error: bool = False
    is_slow: bool = False
    limit: int = 50
    boot: str = ""
    after: int = -1


class TraceAnswer(msgspec.Struct, frozen=True):
    """Traces; and what to say with the next question. `missed`: so many came and went since `after`."""

    items: list[Trace]
    boot: str
    next: int
    missed: int = 0
