"""The question to a replica that is ready: what is behind it (protocol/direct.py). Asked once a connection."""

from collections.abc import Callable

from stoker.protocol import direct
from stoker.protocol.direct import Direct
from stoker.protocol.frames import EndHead, Kind, RequestHead
from stoker.protocol.link import Link
from stoker.types.errors import StokerError


class Asking:
    """A link.Receiver. `then` is called once with the answer: None for a replica that serves everything itself."""

    def __init__(self, link: Link, then: Callable[[Link, Direct | None], object]) -> None:
        self._link = link
        self._then = then
        self._was_asked = False

    def ask(self) -> None:
        """Ask, unless it was asked."""
        if not self._was_asked and self._link.is_open:
            self._was_asked = True
            self._link.send(self, RequestHead(method=direct.METHOD), kind=Kind.CALL)

    def push(self, event: bytes | tuple[EndHead, bytes]) -> None:
        """See link.Receiver."""
        if isinstance(event, tuple):
            try:
                answer = direct.decode(event[1])
            except ValueError:
                answer = None
            self._then(self._link, answer)

    def fail(self, problem: StokerError) -> None:
        """See link.Receiver: another kind of replica, or one that is gone."""
        self._then(self._link, None)
