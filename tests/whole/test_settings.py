"""Settings that are changed on a platform that serves: both gateways follow, and go back."""

import socket
from contextlib import ExitStack

from tests.whole.rig import WAIT_S, Platform, until


def refused(platform: Platform, connections: int) -> int:
    """Return how many of so many connections at once are refused."""
    with ExitStack() as stack:
        opened = []
        for _ in range(connections):
            each = stack.enter_context(socket.create_connection(("127.0.0.1", platform.port), timeout=WAIT_S))
            each.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: here\r\n\r\n")
            opened.append(each)
        return sum(b" 200 " not in each.recv(65536)[:16] for each in opened)


def test_gateways_follow_a_changed_setting_and_go_back(demo: Platform) -> None:
    assert refused(demo, 12) == 0
    try:
        demo.cli("settings", "connections_per_address=1", "access_log=on")
        until(lambda: refused(demo, 12) >= 10)
        demo.cli("settings", "--unset", "connections_per_address")
        until(lambda: refused(demo, 12) == 0)
        demo.cli("predict", "digits", "--input", f"pixels={[0.0] * 64}")
        folder = demo.home / "logs" / "access"
        until(lambda: any('"endpoint":"digits"' in path.read_text() for path in folder.glob("*.jsonl")))
    finally:
        demo.cli("settings", "--unset", "connections_per_address", "--unset", "access_log")
