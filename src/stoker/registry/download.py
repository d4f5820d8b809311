"""One file over HTTP into a folder: resumed, verified, limited, whole or not there.

A cut transfer goes on where it stopped, in this call or the next: the bytes so far lie in `.NAME.part`, and beside
them what they are a part of (a digest or the server's ETag), so that parts of two files are never joined.
"""

import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from stoker.types.errors import (
    Forbidden,
    InvalidInput,
    NotFound,
    RefusedArtifact,
    StokerError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from stoker.types.units import format_bytes

CHUNK_BYTES = 2**18
REDIRECTS_MAX = 5
ATTEMPTS_TOTAL_MAX = 100
WAIT_S_MAX = 30.0

# (file, bytes done, bytes in all or 0 when unknown)
Progress = Callable[[str, int, int], None]


class PullSettings(msgspec.Struct, frozen=True):
    """How files are fetched. `attempts` count from the last byte that came: a slow line is no error.

    authorization: goes to `endpoint` and nowhere else. kind: what that is; who: how to say who one is; terms: what else
    may be missing where that is known.
    """

    endpoint: str = "https://huggingface.co"
    authorization: str = ""
    kind: str = "a model hub"
    who: str = "it may be private or gated, so set HF_TOKEN"
    terms: str = "accept the model's terms on its page; "
    timeout_s: float = 30.0
    attempts: int = 5
    backoff_s: float = 0.5
    limit_bytes: int = 2**40


class Remote(msgspec.Struct, frozen=True):
    """A file to fetch. `size_bytes` is -1 and the digests are "" when nobody said."""

    url: str
    path: str
    size_bytes: int = -1
    sha256: str = ""
    git_sha1: str = ""  # of `blob <size>\\0<bytes>`; the hub gives it for small files


class _Cut(Exception):
    """The transfer stopped early; trying again can help."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _Answer(NamedTuple):
    status: int
    headers: Message
    linked: str  # X-Linked-Etag of this answer or of a redirect on the way
    body: IO[bytes]


def download(remote: Remote, folder: Path, progress: Progress, settings: PullSettings) -> Path:
    """Return the file below `folder`, fetched unless it is there with the right digest already.

    Raises:
        RefusedArtifact: the bytes do not have the digest or size that was promised, twice.
        NotFound, Unauthenticated, Forbidden: the server's answer.
        TooLarge: over the limit. Unavailable: the server or the disk gave up.
    """
    target = folder / remote.path
    target.parent.mkdir(parents=True, exist_ok=True)
    if remote.size_bytes > settings.limit_bytes:
        raise TooLarge(f"{remote.path} has {format_bytes(remote.size_bytes)}, over the limit")
    if target.is_file() and (remote.sha256 or remote.git_sha1) and not _wrong(target, remote):
        progress(remote.path, target.stat().st_size, target.stat().st_size)
        return target
    if remote.size_bytes > shutil.disk_usage(target.parent).free:
        raise Unavailable(f"{remote.path} has {format_bytes(remote.size_bytes)}, more than is free in {folder}")
    transfer = _Transfer(remote, target, progress, settings)
    for is_last in (False, True):
        transfer.run()
        problem = _wrong(transfer.part, transfer.promised)
        if not problem:
            break
        transfer.forget()
        if is_last:
            raise RefusedArtifact(f"{remote.path} from {_host(remote.url)} is damaged: {problem}")
    transfer.finish()
    return target


def get_json(url: str, settings: PullSettings, limit_bytes: int = 2**24) -> Any:
    """Return the JSON at `url`, tried again as a download is. Raises as `download`."""
    failures = 0
    while True:
        try:
            answer = _open(url, {"Accept": "application/json"}, settings)
            with answer.body:
                raw = answer.body.read(limit_bytes + 1)
            if len(raw) > limit_bytes:
                raise TooLarge(f"the answer of {_host(url)} is longer than {limit_bytes} bytes")
            return msgspec.json.decode(raw)
        except msgspec.DecodeError as error:
            raise Unavailable(f"{_host(url)} did not answer with JSON; is it {settings.kind}?") from error
        except (_Cut, OSError, http.client.HTTPException) as error:
            failures += 1
            _pause(error, failures, url, settings)


class _Transfer:
    """The bytes of one file on their way, over as many requests as it takes."""

    def __init__(self, remote: Remote, target: Path, progress: Progress, settings: PullSettings) -> None:
        self.part = target.with_name(f".{target.name}.part")
        self.promised = remote
        self._tag = target.with_name(f".{target.name}.part.tag")
        self._remote = remote
        self._target = target
        self._progress = progress
        self._settings = settings

    def run(self) -> None:
        """Fetch until the part is complete. Raises Unavailable when attempts in a row bring nothing."""
        failures = 0
        for _ in range(ATTEMPTS_TOTAL_MAX):
            before = self._have()
            try:
                self._attempt()
                return
            except (_Cut, OSError, http.client.HTTPException) as error:
                failures = 1 if self._have() > before else failures + 1
                _pause(error, failures, self._remote.url, self._settings)
        raise Unavailable(f"{self._remote.path}: the connection was cut {ATTEMPTS_TOTAL_MAX} times")

    def forget(self) -> None:
        """Drop the part."""
        self.part.unlink(missing_ok=True)
        self._tag.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the complete part its name, durably."""
        with self.part.open("rb+") as file:
            os.fsync(file.fileno())
        self.part.rename(self._target)
        self._tag.unlink(missing_ok=True)

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _attempt(self) -> None:
        have = self._have()
        tag = self._tag.read_text("utf-8") if self._tag.is_file() else ""
        if have and (not tag or (self._remote.sha256 and tag != self._remote.sha256)):
            self.forget()
            have = 0
        if have and have == self._remote.size_bytes:
            return
        headers = {"Range": f"bytes={have}-"} if have else {}
        if have and not self._remote.sha256:
            headers["If-Range"] = tag
        answer = _open(self._remote.url, headers, self._settings)
        with answer.body:
            self._take(answer, have)

    def _take(self, answer: _Answer, have: int) -> None:
        if answer.status == 416:
            self.forget()
            raise _Cut("the server does not know the range that is missing")
        start = have if answer.status == 206 and _range_start(answer.headers) == have else 0
        if answer.status == 206 and start != have:
            self.forget()
            raise _Cut("the server sent another range than was asked for")
        length = answer.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() and not answer.headers.get("Content-Encoding") else -1
        self._learn(answer, total)
        self._tag.write_text(self.promised.sha256 or _strong_etag(answer.headers), "utf-8")
        done = start
        with self.part.open("ab" if start else "wb") as file:
            while chunk := answer.body.read(CHUNK_BYTES):
                done += len(chunk)
                if done > self._settings.limit_bytes or 0 <= self.promised.size_bytes < done:
                    self.forget()
                    raise TooLarge(f"{self._remote.path} is longer than it should be, over {done} bytes")
                self._write(file, chunk)
                self._progress(self._remote.path, done, max(self.promised.size_bytes, 0))
        if done < self.promised.size_bytes:
            raise _Cut(f"the connection ended {self.promised.size_bytes - done} bytes early")

    def _write(self, file: IO[bytes], chunk: bytes) -> None:
        try:
            file.write(chunk)
            file.flush()
        except OSError as error:
            raise Unavailable(f"{self._target} cannot be written: {error.strerror}") from error

    def _learn(self, answer: _Answer, total: int) -> None:
        """Take what the server says of the file where the listing said nothing."""
        size = self._remote.size_bytes if self._remote.size_bytes >= 0 else total
        if size > self._settings.limit_bytes:
            raise TooLarge(f"{self._remote.path} has {format_bytes(size)}, over the limit")
        linked = answer.linked if len(answer.linked) == 64 else ""
        self.promised = msgspec.structs.replace(self._remote, size_bytes=size, sha256=self._remote.sha256 or linked)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to where the bytes are, without the token, and never from https to http."""

    max_redirections = REDIRECTS_MAX

    def __init__(self) -> None:
        self.linked = ""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """See HTTPRedirectHandler."""
        self.linked = self.linked or _linked(headers)
        if urlsplit(newurl).scheme not in ("http", "https") or (
            req.type == "https" and urlsplit(newurl).scheme != "https"
        ):
            raise InvalidInput(f"{_host(req.full_url)} redirects to {newurl[:200]}, which is not https")
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            following.remove_header("Authorization")
        return following


def _open(url: str, headers: dict[str, str], settings: PullSettings) -> _Answer:
    redirects = _Redirects()
    request = urllib.request.Request(url, headers={"User-Agent": "stoker", **headers})  # noqa: S310 - checked below
    if request.type not in ("http", "https"):
        raise InvalidInput(f"{url[:200]} is not an https address")
    if settings.authorization and urlsplit(url).netloc == urlsplit(settings.endpoint).netloc:
        request.add_header("Authorization", settings.authorization)
    try:
        body = urllib.request.build_opener(redirects).open(request, timeout=settings.timeout_s)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise _refusal(error, url, settings) from error
        return _Answer(416, error.headers, "", error)
    return _Answer(body.status, body.headers, redirects.linked or _linked(body.headers), body)


def _refusal(error: urllib.error.HTTPError, url: str, settings: PullSettings) -> StokerError | _Cut:
    with error:
        words = f"{_host(url)} answered {error.code} {error.reason} for {urlsplit(url).path}"
    if error.code in (408, 425, 429) or error.code >= 500:
        after = error.headers.get("Retry-After", "")
        return _Cut(words, float(after) if after.isdigit() else 0.0)
    if error.code == 401:
        return Unauthenticated(f"{words}; it asks who you are: {settings.who}")
    if error.code == 403:
        return Forbidden(f"{words}; {settings.terms}{settings.who}")
    if error.code in (404, 410):
        return NotFound(words)
    return Unavailable(words)


def _pause(error: Exception, failures: int, url: str, settings: PullSettings) -> None:
    if failures >= settings.attempts:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise Unavailable(f"{_host(url)} could not be read after {failures} attempts: {reason}") from error
    wait_s = settings.backoff_s * 2 ** (failures - 1)
    time.sleep(min(max(wait_s, error.wait_s if isinstance(error, _Cut) else 0.0), WAIT_S_MAX))


def _wrong(file: Path, promised: Remote) -> str:
    """Return how `file` differs from what was promised, "" when it does not."""
    size = file.stat().st_size
    if promised.size_bytes >= 0 and size != promised.size_bytes:
        return f"it has {size} bytes, not {promised.size_bytes}"
    kind, expected = ("sha256", promised.sha256) if promised.sha256 else ("sha1", promised.git_sha1)
    if not expected:
        return ""
    digest = hashlib.new(kind, b"" if promised.sha256 else f"blob {size}\0".encode(), usedforsecurity=kind == "sha256")
    with file.open("rb") as opened:
        while chunk := opened.read(2**20):
            digest.update(chunk)
    return "" if digest.hexdigest() == expected else f"its {kind} is {digest.hexdigest()}, not {expected}"


def _linked(headers: Message) -> str:
    return headers.get("X-Linked-Etag", "").removeprefix("W/").strip('"')


def _strong_etag(headers: Message) -> str:
    etag: str = headers.get("ETag", "")
    return "" if etag.startswith("W/") else etag


def _range_start(headers: Message) -> int:
    """Return where `Content-Range: bytes 5-9/10` starts, -1 when it does not say."""
    start = headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(start) if start.isdigit() else -1


def _host(url: str) -> str:
    return urlsplit(url).netloc or url[:100]
