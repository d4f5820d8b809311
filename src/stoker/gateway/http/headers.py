"""Which headers of a request are read; a rollout may ask for more of them by name (directory.py)."""

from typing import Final

# The headers anybody here reads; the others are counted and dropped.
WANTED: Final = frozenset(
    (
        b"accept",
        b"authorization",
        b"cache-control",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"expect",
        b"forwarded",
        b"host",
        b"inference-header-content-length",
        b"x-session-id",
        b"traceparent",
        b"tracestate",
        b"transfer-encoding",
        b"upgrade",
        b"x-api-key",
        b"x-forwarded-for",
        b"x-request-id",
        b"x-request-timeout-ms",
        b"x-stainless-retry-count",
        b"x-stoker-flag",
        b"x-stoker-priority",
        b"x-stoker-progress",
        b"x-stoker-project",
        b"x-stoker-segment",
        b"x-stoker-tags",
        b"x-stoker-tier",
    )
)
LISTS: Final = frozenset((b"accept", b"tracestate"))  # of them: those that may come in several lines
