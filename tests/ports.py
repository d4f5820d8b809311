"""Ports for what tests start: each process of tests has a block of them to itself, so that no two choose the same."""

import functools
import itertools
import socket
from collections.abc import Iterator

BLOCK = 500
# Below those that Linux gives to outgoing connections (32768 and up): one of these could take the port of a server
# that is down for a moment.
BLOCKS = [range(first, first + BLOCK) for first in range(10_000, 32_500, BLOCK)]


def free_ports(count: int) -> list[int]:
    """Return `count` ports in a row that nobody listens on; calls return others until the block is used up."""
    row: list[int] = []
    for port in itertools.islice(_own(), BLOCK):
        if _is_free(port):
            row = [*row, port] if row and port == row[-1] + 1 else [port]
            if len(row) == count:
                return row
    raise AssertionError(f"not {count} free ports in a row in the block of these tests")


@functools.cache
def _own() -> Iterator[int]:
    """Claim a block for as long as this process lives; return its ports, again and again."""
    for block in BLOCKS:
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0stoker-tests-{block[0]}")  # a name without a file: the kernel forgets it with the process
        except OSError:
            claim.close()
        else:
            claim.detach()  # stays open
            return itertools.cycle(block)
    raise AssertionError("every block of ports is claimed by another process of tests")


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
