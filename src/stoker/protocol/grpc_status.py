"""Which gRPC status each error of this project is.

By the error's class, or the nearest one above it: a new error has a status from the start.
"""

from typing import Final

from stoker.types import errors
from stoker.types.errors import StokerError

# Numbers as in gRPC's documentation of status codes.
OK: Final = 0
INVALID_ARGUMENT: Final = 3
DEADLINE_EXCEEDED: Final = 4
NOT_FOUND: Final = 5
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
FAILED_PRECONDITION: Final = 9
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
UNAUTHENTICATED: Final = 16

STATUSES: Final[dict[type[StokerError], int]] = {
    errors.InvalidInput: INVALID_ARGUMENT,
    errors.TooLarge: RESOURCE_EXHAUSTED,  # as gRPC itself says of a message over its limit
    errors.Unauthenticated: UNAUTHENTICATED,
    errors.Forbidden: PERMISSION_DENIED,
    errors.NotFound: NOT_FOUND,
    errors.MethodNotAllowed: UNIMPLEMENTED,
    errors.Conflict: FAILED_PRECONDITION,
    errors.RefusedArtifact: FAILED_PRECONDITION,
    errors.Busy: RESOURCE_EXHAUSTED,
    errors.Unavailable: UNAVAILABLE,
    errors.DeadlineExceeded: DEADLINE_EXCEEDED,
    errors.ClientTooSlow: DEADLINE_EXCEEDED,
    errors.Unsupported: UNIMPLEMENTED,
    errors.EngineFailed: INTERNAL,
    StokerError: INTERNAL,
}


def status_of(kind: type[StokerError]) -> int:
    """Return the status number of errors of `kind`."""
    return next(STATUSES[each] for each in kind.__mro__ if each in STATUSES)
