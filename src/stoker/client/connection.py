"""One HTTP exchange with a stoker process, over a Unix socket or TCP, and its errors as the error tree.

Each exchange opens and closes its own connection: on one machine that costs 100 µs, and no exchange can meet a
connection that the other side closed meanwhile. Who measures what exchanges take keeps one open instead (`opened`).
"""

import http.client
import select
import socket
import ssl
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from stoker.client.trust import SYSTEM, Trust
from stoker.types.errors import DeadlineExceeded, InvalidInput, NotReachable, PolicyDenied, StokerError, all_codes

_T = TypeVar("_T")

ANSWER_TIMEOUT_S: Final = 30.0
CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_BYTES_MAX: Final = 64 * 2**20
PIECE_BYTES: Final = 256 * 1024
# A status without a stoker error body (a proxy's, another program's on that port) becomes the nearest class.
_CODE_OF_STATUS: Final = {
    400: "invalid_input",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    408: "client_too_slow",
    409: "conflict",
    412: "precondition_failed",
    413: "body_too_large",
    422: "refused_artifact",
    429: "busy",
    501: "unsupported",
    502: "unavailable",
    503: "unavailable",
    504: "deadline_exceeded",
}

Method = Literal["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"]
Query = Mapping[str, str | int | float | bool | None]


class Detail(msgspec.Struct, frozen=True):
    """One of several things wrong with a body: a line of the manifest (0: unknown), the field, what was expected."""

    message: str
    line: int = 0
    field: str = ""


class ManifestRefused(InvalidInput):
    """Manifests with everything that is wrong with them in `details`; nothing of them was applied."""

    def __init__(self, details: tuple[Detail, ...]) -> None:
        count = "an error" if len(details) == 1 else f"{len(details)} errors"
        super().__init__(f"the manifest has {count}; nothing was applied")
        self.details = details


class PolicyRefused(PolicyDenied):
    """A change that policies deny, with every rule that does in `details`; nothing was applied."""

    def __init__(self, details: tuple[Detail, ...]) -> None:
        count = "a policy" if len(details) == 1 else f"{len(details)} rules of policies"
        super().__init__(f"{count} {'denies' if len(details) == 1 else 'deny'} it; nothing was applied")
        self.details = details


class _Problem(msgspec.Struct, frozen=True):
    """The error body of every stoker process; `param` is OpenAI's word for the field."""

    message: str
    code: str | None = None
    field: str | None = None
    param: str | None = None
    details: tuple[Detail, ...] | None = None


class _ProblemBody(msgspec.Struct, frozen=True):
    error: _Problem


class _TextProblem(msgspec.Struct, frozen=True):
    """The Open Inference Protocol's error body."""

    error: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Connection:
    """Where a process answers and with which key. `base` is `http://host:port`, `https://…` or `unix:/path`."""

    base: str
    key: str = ""
    timeout_s: float = ANSWER_TIMEOUT_S
    trust: Trust = SYSTEM

    def exchange(
        self,
        method: Method,
        path: str,
        *,
        query: Query | None = None,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """Return the whole answer of one request.

        Raises:
            NotReachable: nobody listens, or the connection broke.
            DeadlineExceeded: no answer within `timeout_s`.
            StokerError: the answer is an error; the class is the one of its code.
        """
        with Opened(self, timeout_s) as wire:
            answer = wire.ask(method, path, query, body, headers)
            content = wire.read(answer)
        return Answer(answer.status, dict(answer.headers.items()), content)

    def stream(
        self,
        method: Method,
        path: str,
        *,
        query: Query | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Generator[bytes, None, None]:
        """Yield the body in the pieces in which it arrives; closing the iterator closes the connection.

        `timeout_s` bounds the silence between two pieces; pass `float("inf")` to wait for ever.
        """
        with Opened(self, timeout_s) as wire:
            answer = wire.ask(method, path, query, body, headers)
            yield from wire.pieces(answer)

    def opened(self, timeout_s: float | None = None) -> "Opened":
        """Return a connection for several exchanges, one after the other; a context manager, which connects."""
        return Opened(self, timeout_s)


def decode(body: bytes, kind: type[_T]) -> _T:
    """Return an answer's body as a typed value. Raises NotReachable when the other side speaks something else."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as wrong:
        raise NotReachable(f"whoever answers there is not a stoker this client understands: {wrong}") from wrong


class Opened:
    """A connection while it is open, with every failure translated. One exchange ends before the next begins."""

    def __init__(self, where: Connection, timeout_s: float | None) -> None:
        self._where = where
        wait_s = where.timeout_s if timeout_s is None else timeout_s
        self._timeout_s = None if wait_s == float("inf") else wait_s
        self._http: http.client.HTTPConnection | None = None
        self._answer: http.client.HTTPResponse | None = None

    def __enter__(self) -> "Opened":
        self._http = _connect(self._where.base, self._timeout_s, self._where.trust)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it, whatever still comes."""
        if self._answer is not None:
            self._answer.close()  # the connection lets go of an answer that said `Connection: close`
        if self._http is not None:
            self._http.close()

    @property
    def is_kept(self) -> bool:
        """Whether another exchange can begin: the other side has not closed it."""
        held = None if self._http is None else self._http.sock
        return held is not None and not select.select([held], [], [], 0)[0]

    def ask(
        self,
        method: Method,
        path: str,
        query: Query | None = None,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        """Send the request and return the answer's head; raises when it is an error."""
        assert self._http is not None
        sent = dict(headers or {})
        if self._where.key:
            sent.setdefault("Authorization", f"Bearer {self._where.key}")
        given = {name: _query_text(value) for name, value in (query or {}).items() if value is not None}
        target = quote(path, safe="/@:,+~-._%") + (f"?{urlencode(given)}" if given else "")
        try:
            # The other side may refuse (413, 401) before it has read everything: its answer is still to be read.
            with suppress(BrokenPipeError, ConnectionResetError):
                self._http.request(method, target, body=body, headers=sent)
            answer = self._answer = self._http.getresponse()
        except (OSError, http.client.HTTPException) as broken:
            raise self._translate(broken) from broken
        if answer.length is None and not answer.chunked:
            # Its end would be the end of the connection, and so would a cut in the middle, or in the head.
            raise NotReachable(f"{self._where.base} does not say how long its answer is")
        if answer.status >= 400:
            raise _problem(answer.status, answer.getheader("Retry-After"), self.read(answer))
        return answer

    def read(self, answer: http.client.HTTPResponse) -> bytes:
        """Return the rest of the body, up to `ANSWER_BYTES_MAX`."""
        pieces: list[bytes] = []
        size = 0
        for piece in self.pieces(answer):
            size += len(piece)
            if size > ANSWER_BYTES_MAX:
                raise StokerError(f"{self._where.base} answered with more than {ANSWER_BYTES_MAX} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    def pieces(self, answer: http.client.HTTPResponse) -> Generator[bytes, None, None]:
        """Yield the rest of the body in the pieces in which it arrives."""
        while piece := self.piece(answer):
            yield piece

    def piece(self, answer: http.client.HTTPResponse) -> bytes:
        """Return what has arrived (waiting for at least one byte), b"" at the end."""
        try:
            piece = answer.read1(PIECE_BYTES)
        except (OSError, http.client.HTTPException) as broken:
            raise self._translate(broken) from broken
        if not piece and answer.length:
            raise NotReachable(f"{self._where.base} closed the connection with {answer.length} bytes still to come")
        if not piece:
            answer.close()  # only then may the next exchange begin on this connection
        return piece

    def _translate(self, broken: Exception) -> StokerError:
        if isinstance(broken, TimeoutError):
            return DeadlineExceeded(f"{self._where.base} did not answer within {self._timeout_s:g} s")
        if isinstance(broken, http.client.IncompleteRead | http.client.RemoteDisconnected | ConnectionResetError):
            return NotReachable(f"{self._where.base} closed the connection in the middle of its answer")
        words = str(broken) or type(broken).__name__
        return NotReachable(f"the connection to {self._where.base} broke: {words}")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket file."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except OSError:
            self.sock.close()
            raise


def _connect(base: str, timeout_s: float | None, trust: Trust) -> http.client.HTTPConnection:
    """Return a connected connection. The connect has its own short limit; later reads have `timeout_s`."""
    wait_s = min(CONNECT_TIMEOUT_S, timeout_s) if timeout_s is not None else CONNECT_TIMEOUT_S
    opened = (
        _UnixConnection(base.removeprefix("unix:"), wait_s) if base.startswith("unix:") else _tcp(base, wait_s, trust)
    )
    try:
        opened.connect()
    except TimeoutError as slow:
        raise NotReachable(f"{base} did not accept a connection within {wait_s:g} s") from slow
    except ssl.SSLCertVerificationError as unknown:
        said = f"{base} shows a certificate that is not trusted ({unknown.verify_message})"
        raise NotReachable(f"{said}; say who signed it with --ca FILE") from unknown
    except OSError as refused:
        raise NotReachable(f"nothing answers at {base} ({refused.strerror or refused})") from refused
    opened.sock.settimeout(timeout_s)
    return opened


def _tcp(base: str, wait_s: float, trust: Trust) -> http.client.HTTPConnection:
    try:
        parts = urlsplit(base)
        host, port = parts.hostname, parts.port
    except ValueError as wrong:
        raise StokerError(f"{base!r} is not an address: {wrong}") from wrong
    if parts.scheme not in ("http", "https") or not host:
        raise StokerError(f"{base!r} is not an address; write http://HOST:PORT, https://HOST or unix:/PATH")
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=wait_s, context=trust.context())
    return http.client.HTTPConnection(host, port, timeout=wait_s)


def _query_text(value: str | float | bool | None) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value)


def _problem(status: int, retry_after: str | None, body: bytes) -> StokerError:
    """Return the error of an answer; the body may be stoker's, OpenAI's, the Open Inference Protocol's or anything."""
    problem = _read_problem(status, body)
    kinds = all_codes()
    kind = kinds.get(problem.code or "") or kinds[_CODE_OF_STATUS.get(status, "internal")]
    try:
        retry_after_s = float(retry_after or "")
    except ValueError:
        retry_after_s = None
    if kind is InvalidInput and problem.details:
        return ManifestRefused(problem.details)
    if kind is PolicyDenied and problem.details:
        return PolicyRefused(problem.details)
    return kind(problem.message, field=problem.field or problem.param or None, retry_after_s=retry_after_s)


def _read_problem(status: int, body: bytes) -> _Problem:
    try:
        return msgspec.json.decode(body, type=_ProblemBody).error
    except msgspec.MsgspecError:
        pass
    try:
        return _Problem(msgspec.json.decode(body, type=_TextProblem).error)
    except msgspec.MsgspecError:
        text = body[:300].decode("utf-8", "replace").strip()
        return _Problem(f"HTTP status {status}{': ' + text if text else ''}")
