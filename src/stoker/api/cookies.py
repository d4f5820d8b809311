"""Sessions in cookies: how one is set, read and taken away, and what a request by cookie must show besides.

Over https its name begins with __Host-: no other host and no other path can set it (RFC 6265bis, 4.1.3.2). A request
that changes something is believed only with all of: Sec-Fetch-Site and Origin that are this origin's, as far as the
browser sends them, and it must send one; and a header that only who can read our answers knows.
"""

import hmac
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from stoker.control.identity.sessions import csrf_of
from stoker.protocol.identity import origin_of
from stoker.types.errors import Forbidden, Unauthenticated

SECURE: Final = "__Host-stoker"
PLAIN: Final = "stoker-session"
HEADER: Final = "x-stoker-csrf"
_SAFE: Final = frozenset(("GET", "HEAD"))


def session(request: Request) -> tuple[str, str]:
    """Return what opens a session, and the cookie it came in; "" without one."""
    for name in (SECURE, PLAIN):
        text = request.cookies.get(name, "")
        if text.startswith("sts_"):
            return text, name
    return "", ""


def keep(answer: Response, base: str, text: str, lifetime_s: float) -> None:
    """Have the browser keep a session until its end."""
    _put(answer, base, ("", text), round(lifetime_s))


def keep_sign_in(answer: Response, base: str, sealed: str, lifetime_s: float) -> None:
    """Have the browser keep what its sign-in needs on the way back."""
    _put(answer, base, ("-sign-in", sealed), round(lifetime_s))


def sign_in(request: Request) -> str:
    """Return what a sign-in needs on its way back; "" where none was begun."""
    return next(filter(None, (request.cookies.get(f"{name}-sign-in", "") for name in (SECURE, PLAIN))), "")


def forget(answer: Response, base: str, *, also_session: bool = True) -> None:
    """Have the browser forget the sign-in that is over, and its session."""
    _put(answer, base, ("-sign-in", ""), 0)
    if also_session:
        _put(answer, base, ("", ""), 0)


def _put(answer: Response, base: str, what: tuple[str, str], seconds: int) -> None:
    is_secure = urlsplit(base).scheme == "https"
    more, value = what
    answer.set_cookie(
        (SECURE if is_secure else PLAIN) + more, value, max_age=seconds, secure=is_secure, httponly=True, samesite="lax"
    )


def check(request: Request, name: str, text: str, base: str) -> None:
    """Raise Forbidden for a request by cookie that another site may have made a browser send; Unauthenticated for a
    cookie that another host may have set."""
    if urlsplit(base).scheme == "https" and name != SECURE:
        raise Unauthenticated("this session is not in its cookie; sign in again")
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if request.method in _SAFE:
        if site in ("cross-site", "same-site") and request.headers.get("sec-fetch-mode") != "navigate":
            raise Forbidden("another site asks for this by your browser")
        return
    if site is None and origin is None:
        raise Forbidden("by cookie this needs Origin or Sec-Fetch-Site, which browsers send; programs send a key")
    if site not in (None, "same-origin") or (origin is not None and origin.lower() != origin_of(base)):
        raise Forbidden("another site asks for this by your browser")
    if not hmac.compare_digest(request.headers.get(HEADER, "").encode(), csrf_of(text).encode()):
        raise Forbidden(f"by cookie this needs {HEADER}, as GET /auth/session says it")
