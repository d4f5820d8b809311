"""What is wrong with where a hook posts to and what signs it: of rollouts and of drift alike."""

import re
from typing import Final
from urllib.parse import urlsplit

from stoker.core.secrets import literal_address
from stoker.protocol.conform import shown
from stoker.types.resources import Trigger
from stoker.types.rollouts import Hook

FILE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")  # in the state folder's hooks/


def receiver_problems(hook: Hook | Trigger) -> list[tuple[str, str]]:
    """Return (field, message) of each problem. That there is an address at all is for others to ask."""
    found = []
    if hook.webhook and hook.webhook_from is not None:
        found.append(("webhook_from", "`webhook` or `webhook_from` says where to, one of them"))
    if hook.secret and hook.sign_with is not None:
        found.append(("sign_with", "`secret` or `sign_with` says what signs it, one of them"))
    if hook.secret and not FILE.fullmatch(hook.secret):
        found.append(("secret", f"{shown(hook.secret)} cannot be a file in hooks/"))
    if not hook.webhook:
        return found
    if why := literal_address(hook.webhook, "webhook_from"):
        found.append(("webhook", why))
    elif urlsplit(hook.webhook).scheme not in ("http", "https") or not urlsplit(hook.webhook).netloc:
        found.append(("webhook", f"{shown(hook.webhook)} is no http or https address"))
    return found
