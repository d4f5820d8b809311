"""Errors as the API tells them: `{"error": {"code", "message", "field", "details"}}`, with the error's own status."""

import math
from http import HTTPStatus

import msgspec
from starlette.responses import Response

from stoker.api.bodies import reply
from stoker.control.policies import Denied
from stoker.control.specs import Refusal
from stoker.core import policy
from stoker.protocol.manifest import ManifestError
from stoker.types.errors import StokerError


class Detail(msgspec.Struct, frozen=True):
    """One of several things wrong. `line` is 0 where the body has no lines to speak of."""

    line: int
    field: str
    message: str


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong; `code` is stable, for programs."""

    code: str
    message: str
    field: str | None = None
    details: tuple[Detail, ...] = ()


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every answer that is an error."""

    error: ErrorInfo


def refusal(problem: StokerError) -> Response:
    """Return the answer that tells of `problem`."""
    details: tuple[Detail, ...] = ()
    if isinstance(problem, ManifestError):
        details = tuple(Detail(each.line, each.field, each.message) for each in problem.problems)
    elif isinstance(problem, Refusal):
        details = tuple(Detail(0, each.field, each.message) for each in problem.problems)
    elif isinstance(problem, Denied):
        lines = problem.lines or [0] * len(problem.denials)
        details = tuple(
            Detail(line, verdict.field, f"{change.named}: {policy.said(verdict)}")
            for line, (change, verdict) in zip(lines, problem.denials, strict=True)
        )
    headers = {}
    if problem.retry_after_s is not None:
        headers["retry-after"] = str(math.ceil(problem.retry_after_s))
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    info = ErrorInfo(problem.code, problem.message, problem.field, details)
    return reply(ErrorBody(info), problem.status, headers)


def plain(status: int) -> Response:
    """Return the answer for an HTTP status that comes from no room of ours (no such path, no such method)."""
    phrase = HTTPStatus(status).phrase
    code = {404: "not_found", 405: "method_not_allowed"}.get(status, "internal" if status >= 500 else "invalid_input")
    return reply(ErrorBody(ErrorInfo(code, f"{phrase.lower()}; see /api/v1/openapi.json")), status)
