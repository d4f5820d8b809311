"""Which gRPC status each error of this project is.

By the error's class, or the nearest one above it: a new error has a status from the start.
"""

from enum import IntEnum
from typing import Final

from stoker.types import errors
from stoker.types.errors import StokerError


class Status(IntEnum):
    """The statuses that are used here, with gRPC's numbers."""

    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


STATUSES: Final[dict[type[StokerError], Status]] = {
    errors.InvalidInput: Status.INVALID_ARGUMENT,
    errors.TooLarge: Status.RESOURCE_EXHAUSTED,  # as gRPC itself says of a message over its limit
    errors.Unauthenticated: Status.UNAUTHENTICATED,
    errors.Forbidden: Status.PERMISSION_DENIED,
    errors.NotFound: Status.NOT_FOUND,
    errors.MethodNotAllowed: Status.UNIMPLEMENTED,
    errors.Conflict: Status.FAILED_PRECONDITION,
    errors.RefusedArtifact: Status.FAILED_PRECONDITION,
    errors.PolicyDenied: Status.FAILED_PRECONDITION,
    errors.Busy: Status.RESOURCE_EXHAUSTED,
    errors.BudgetExceeded: Status.RESOURCE_EXHAUSTED,
    errors.Unavailable: Status.UNAVAILABLE,
    errors.NoticeRefused: Status.UNAVAILABLE,
    errors.DeadlineExceeded: Status.DEADLINE_EXCEEDED,
    errors.ClientTooSlow: Status.DEADLINE_EXCEEDED,
    errors.Unsupported: Status.UNIMPLEMENTED,
    errors.EngineFailed: Status.INTERNAL,
    StokerError: Status.INTERNAL,
}


def status_of(kind: type[StokerError]) -> Status:
    """Return the status of errors of `kind`."""
    return next(STATUSES[each] for each in kind.__mro__ if each in STATUSES)
