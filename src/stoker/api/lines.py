"""Answers of operations that take a while: lines of JSON, each when it is known. Who closes the connection ends it."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import msgspec
from starlette.responses import Response, StreamingResponse

from stoker.types.errors import StokerError
from stoker.types.work import Problem

LINES: Final = "application/x-ndjson"
log: Final = logging.getLogger(__name__)


async def lines(steps: AsyncGenerator[Any, None]) -> Response:
    """Return the answer that has each of `steps` in a line; what is refused at once is an ordinary refusal."""
    try:
        first = await anext(steps)
    except BaseException:
        await steps.aclose()
        raise
    return StreamingResponse(_encoded(first, steps), media_type=LINES)


async def _encoded(first: Any, steps: AsyncGenerator[Any, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(steps):
        yield msgspec.json.encode(first) + b"\n"
        try:
            async for said in steps:
                yield msgspec.json.encode(said) + b"\n"
        except StokerError as problem:
            yield msgspec.json.encode(Problem(problem.code, problem.message)) + b"\n"
        except Exception:  # the answer has begun: the caller hears of it in a line, as of everything else
            log.exception("a longer operation failed")
            yield msgspec.json.encode(Problem("internal", "this is a bug; control's log has the details")) + b"\n"
