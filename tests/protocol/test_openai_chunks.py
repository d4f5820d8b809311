"""What another server says of its refusals, however it says it."""

import pytest

from stoker.gateway.exchange import error_headers
from stoker.protocol.openai_chunks import status_error


@pytest.mark.parametrize(
    ("said", "wait_s"),
    [
        (None, 1.0),
        ("7", 7.0),
        ("0", 1.0),
        ("-5", 1.0),
        ("nan", 1.0),
        ("inf", 120.0),
        ("-inf", 1.0),
        ("1e400", 120.0),
        ("soon", 1.0),
        ("Mon, 01 Jan 0001 00:00:00 GMT", 1.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 120.0),
    ],
)
def test_a_server_that_is_full_is_waited_for_within_what_clients_obey_whatever_it_says(
    said: str | None, wait_s: float
) -> None:
    for status in (429, 503):
        told = status_error(status, b"{}", said)
        assert told.retry_after_s == wait_s
        assert b"retry-after: %d\r\n" % wait_s in error_headers(told)
