"""Reading what callers send, within limits, and writing what they get. Every problem names its field."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from stoker.protocol import conform
from stoker.types.errors import ClientTooSlow, InvalidInput, TooLarge
from stoker.types.units import format_bytes

JSON_BYTES_MAX: Final = 8 << 20  # the file list of a version with thousands of files
MANIFEST_BYTES_MAX: Final = 4 << 20
CHUNK_TIMEOUT_S: Final = 30.0  # a body that stands still so long is given up

_T = TypeVar("_T")
_AT: Final = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_CLOSED: Final = ("matching regex", "Invalid enum value")  # what msgspec says of a text that is none of those wanted
_NAMED: Final = re.compile(r"(?:unknown|required) field `(?P<name>[^`]*)`")


async def chunks(request: Request) -> AsyncIterator[bytes]:
    """Yield the body piece by piece. Raises ClientTooSlow when it stands still, InvalidInput when it breaks off."""
    body = request.stream()
    try:
        while True:
            async with asyncio.timeout(CHUNK_TIMEOUT_S):
                chunk = await anext(body, None)
            if chunk is None:
                return
            if chunk:
                yield chunk
    except TimeoutError as still:
        raise ClientTooSlow(f"no byte of the body came for {CHUNK_TIMEOUT_S:g} s") from still
    except ClientDisconnect as gone:
        raise InvalidInput("the body broke off") from gone


async def read(request: Request, limit_bytes: int = JSON_BYTES_MAX) -> bytes:
    """Return the whole body. Raises TooLarge, before it is read when its length is announced."""
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced) > limit_bytes:
        raise TooLarge(f"a body of {announced} bytes; at most {format_bytes(limit_bytes)} are allowed")
    pieces, size = [], 0
    async for chunk in chunks(request):
        size += len(chunk)
        if size > limit_bytes:
            raise TooLarge(f"the body is larger than {format_bytes(limit_bytes)}")
        pieces.append(chunk)
    return b"".join(pieces)


async def decoded(request: Request, kind: type[_T]) -> _T:
    """Return the JSON body as `kind`. Raises InvalidInput with the field."""
    body = await read(request)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as wrong:
        if "Expected `int" not in str(wrong):
            raise invalid(wrong, kind) from wrong
    except (msgspec.DecodeError, UnicodeDecodeError) as broken:
        raise InvalidInput(f"the body is not JSON: {broken}") from broken
    try:  # JSON knows one kind of number: 1.0 is a whole one
        return msgspec.convert(_whole(msgspec.json.decode(body)), kind)
    except msgspec.ValidationError as wrong:
        raise invalid(wrong, kind) from wrong


async def changes(request: Request, kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return by name what the JSON body gives of `kind` (operations.partly), None where it says null.

    Raises InvalidInput.
    """
    found = await decoded(request, kind)
    given = ((name, getattr(found, name)) for name in kind.__struct_fields__)
    return {name: value for name, value in given if value is not msgspec.UNSET}


def _whole(value: Any) -> Any:
    """Return a JSON value of which whole numbers are integers."""
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def invalid(wrong: msgspec.ValidationError, kind: Any = None) -> InvalidInput:
    """Return what is wrong as an error that names the field by its path, `files[0].digest`.

    kind: what was asked for; it has words for what a pattern means.
    """
    text = str(wrong)
    at = _AT.search(text)
    named = _NAMED.search(text)
    path = at["path"] if at is not None else ""
    if named is not None:
        path = f"{path}.{named['name']}" if path else named["name"]
    is_closed = any(word in text for word in _CLOSED)
    meaning = conform.meaning(kind, path) if kind is not None and is_closed else ""
    return InvalidInput(f"not as it must be: {meaning}" if meaning else _AT.sub("", text), field=path or None)


def number(request: Request, name: str, default: float, low: float, high: float) -> float:
    """Return a numeric query parameter within bounds. Raises InvalidInput."""
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError as wrong:
        raise InvalidInput(f"{text!r} is not a number", field=name) from wrong
    if not low <= value <= high:
        raise InvalidInput(f"{text} is not between {low:.15g} and {high:.15g}", field=name)
    return value


def flag(request: Request, name: str) -> bool:
    """Return a yes/no query parameter (1, true, yes; 0, false, no), no by default. Raises InvalidInput."""
    text = request.query_params.get(name, "0").lower()
    if text in ("1", "true", "yes"):
        return True
    if text in ("0", "false", "no", ""):
        return False
    raise InvalidInput(f"{text!r} is neither 1 nor 0", field=name)


def reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return `value` as a JSON answer."""
    return Response(msgspec.json.encode(value), status, headers, "application/json")


def nothing(status: int = 204) -> Response:
    """Return an answer without a body."""
    return Response(status_code=status)
