"""What both ends of a link agree on beside the frames: addresses, and errors as they cross the wire."""

from stoker.protocol.frames import ErrorHead
from stoker.types.errors import StokerError, all_codes

_ERRORS = all_codes()


def as_error(head: ErrorHead) -> StokerError:
    """Return the error that `head` tells of, as this process' exception."""
    kind = _ERRORS.get(head.code, StokerError)
    return kind(head.message, field=head.field, retry_after_s=head.retry_after_s)


def as_head(problem: StokerError) -> ErrorHead:
    """Return `problem` as it crosses the wire."""
    return ErrorHead(
        code=problem.code, message=problem.message, field=problem.field, retry_after_s=problem.retry_after_s
    )


def socket_path(address: str) -> str:
    """Return the path in `unix:/path`. Raises ValueError for any other kind of address."""
    kind, _, rest = address.partition(":")
    if kind != "unix" or not rest:
        raise ValueError(f"{address!r} is not an address; expected unix:/path")
    return rest
