"""The gRPC status of every error there is."""

from collections.abc import Iterator

import grpc

from stoker.protocol.grpc_status import STATUSES, Status, status_of
from stoker.types.errors import StokerError

# HTTP status → what gRPC calls the same; an error whose two statuses disagree is mapped wrongly in one of them.
LIKE = {
    400: {"INVALID_ARGUMENT"},
    401: {"UNAUTHENTICATED"},
    402: {"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"},
    403: {"PERMISSION_DENIED"},
    404: {"NOT_FOUND"},
    405: {"UNIMPLEMENTED"},
    408: {"DEADLINE_EXCEEDED"},
    409: {"FAILED_PRECONDITION"},
    412: {"FAILED_PRECONDITION"},
    413: {"RESOURCE_EXHAUSTED"},
    422: {"INVALID_ARGUMENT", "FAILED_PRECONDITION"},
    429: {"RESOURCE_EXHAUSTED"},
    500: {"INTERNAL"},
    501: {"UNIMPLEMENTED"},
    502: {"UNAVAILABLE"},
    503: {"UNAVAILABLE"},
    504: {"DEADLINE_EXCEEDED"},
}


def tree(kind: type[StokerError]) -> Iterator[type[StokerError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from tree(each)


def test_every_error_has_one_status_that_means_what_its_http_status_means() -> None:
    kinds = set(tree(StokerError))  # also those of other rooms, as far as other tests have imported them
    assert len(kinds) > len(STATUSES) > 10
    assert [kind for kind in kinds if status_of(kind).name not in LIKE[kind.status]] == []


def test_the_statuses_have_grpcs_numbers() -> None:
    assert {status.name: status.value for status in Status}.items() <= {
        code.name: code.value[0] for code in grpc.StatusCode
    }.items()


def test_an_error_that_comes_later_has_the_status_of_its_kind() -> None:
    parent = next(kind for kind in STATUSES if kind.code == "busy")
    assert status_of(type("Later", (parent,), {})) is Status.RESOURCE_EXHAUSTED
