"""Sessions: what opens one, when it ends, who may begin one, and what stands in for a key while it lasts.

`sts_<id8>_<43 urlsafe characters>`, as keys have it; the database holds its sha256. A browser has it in a cookie that
no script reads; the token against forged requests is made of it, so that it needs no place of its own.
"""

import base64
import hashlib
import hmac
import re
import secrets
from typing import Final

from stoker.control.identity.providing import encoded, standing
from stoker.control.keys import digest
from stoker.core.identity import account_of
from stoker.protocol.identity import lifetimes
from stoker.store import journal, roles, sessions
from stoker.store.engine import Connection
from stoker.store.keys import KeyRow
from stoker.store.sessions import SessionRow
from stoker.types.access import EVERYWHERE, Grant
from stoker.types.errors import Forbidden, Unauthenticated
from stoker.types.identity import Identity, SessionKind
from stoker.types.ids import DEFAULT_PROJECT, ProjectName
from stoker.types.resources import IdentityProvider

USED_EVERY_S: Final = 30.0  # that it was used is written down so often
_TEXT: Final = re.compile(r"sts_([a-z0-9]{8})_[A-Za-z0-9_-]{43}")
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"


def begin(
    connection: Connection,
    provider: IdentityProvider,
    who: Identity,
    kind: SessionKind,
    asked: tuple[str, str],
    now_s: float,
) -> tuple[str, SessionRow]:
    """Store a session; return what opens it, and its row. asked: from which address, by which program.

    Raises Forbidden for who may do nothing: in words that tell what to ask for, and not what there is.
    """
    if not standing(roles.rights(connection), provider, who.subject, who.email, who.claims):
        raise Forbidden(nobody(who.subject, who.email))
    lifetime_s, idle_s = lifetimes(provider.spec.session)
    session_id = "".join(secrets.choice(_ALPHABET) for _ in range(8))
    text = f"sts_{session_id}_{secrets.token_urlsafe(32)}"
    origin, agent = asked
    row = SessionRow(
        session_id, digest(text), who.subject, who.provider, kind, who.email, who.name, encoded(who.claims),
        origin[:64], agent[:200], now_s, now_s, idle_s if kind == "browser" else 0.0, now_s + lifetime_s,
    )  # fmt: skip
    sessions.add(connection, row, now_s)
    because = f"{who.subject} signs in by {who.provider}"
    journal.add(connection, journal.Entry(now_s, "SignIn", because, subject=who.subject))
    return text, row


def nobody(subject: str, email: str) -> str:
    """Return what is said to somebody who is known, and may do nothing, whatever they ask for."""
    known = f"{email} ({subject})" if email else subject
    return (
        f"you are {known}, and may do nothing here yet; ask who runs this platform for a role: "
        f"stoker members add {subject} --role ROLE --project PROJECT"
    )


def verify(connection: Connection, text: str, now_s: float) -> SessionRow:
    """Return the session that `text` opens. Raises Unauthenticated, in words that do not tell which part was wrong."""
    match = _TEXT.fullmatch(text)
    found = sessions.find(connection, match[1]) if match is not None else None
    if found is None or not hmac.compare_digest(found.sha256, digest(text)) or found.ends_s() <= now_s:
        raise Unauthenticated("this session has ended; sign in again")
    return found


def csrf_of(text: str) -> str:
    """Return what requests by cookie carry in `x-stoker-csrf`: only who can read answers of this origin knows it."""
    made = hmac.new(text.encode(), b"stoker csrf 1", hashlib.sha256).digest()
    return base64.urlsafe_b64encode(made).rstrip(b"=").decode()


def stand_in(subject: str, email: str, grant: Grant, now_s: float, ends_s: float) -> KeyRow:
    """Return somebody without a key as the key that operations ask about."""
    project = DEFAULT_PROJECT if grant.project == EVERYWHERE else ProjectName(grant.project)
    return KeyRow(account_of(subject), project, email or subject, "", now_s, ends_s, subject=subject)
