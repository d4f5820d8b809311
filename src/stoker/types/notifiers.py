"""Where alerts are sent: a receiver as a manifest, and which alerts it gets.

Secrets are named, never written (types/secrets.py).
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from stoker.types.fields import Seconds
from stoker.types.secrets import SecretRef

NotifierType = Literal["webhook", "slack", "email", "apprise"]


class Email(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How mail is sent."""

    to: Annotated[tuple[str, ...], Meta(min_length=1, max_length=32, description="addresses")]
    sender: Annotated[str, Meta(max_length=320, description="the address it comes from")]
    host: Annotated[str, Meta(max_length=253, description="the SMTP server")]
    port: Annotated[int, Meta(ge=1, le=65535, description="its port")] = 587
    security: Annotated[
        Literal["starttls", "tls", "none"], Meta(description="none only for a server on this machine")
    ] = "starttls"
    user: Annotated[str, Meta(max_length=320, description="who logs in; empty: nobody")] = ""
    password: Annotated[SecretRef | None, Meta(description="where the password is")] = None


class NotifierSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A receiver and what it gets."""

    type: Annotated[
        NotifierType,
        Meta(
            description="webhook (Alertmanager's JSON, version 4), slack (and what reads the same), email, "
            "apprise (whatever Apprise knows by its address; needs the extra stoker[apprise] in control)"
        ),
    ]
    url: Annotated[str, Meta(max_length=2048, description="webhook, slack: where to; if it is no secret")] = ""
    url_from: Annotated[SecretRef | None, Meta(description="webhook, slack, apprise: where the address is")] = None
    sign_with: Annotated[
        SecretRef | None, Meta(description="webhook: where the key is; each is signed as Standard Webhooks says")
    ] = None
    email: Annotated[Email | None, Meta(description="email: how")] = None
    match: Annotated[
        dict[str, str], Meta(description="labels that an alert must have; a value may end in *. Empty: every alert")
    ] = {}
    min_severity: Annotated[Literal["page", "ticket"], Meta(description="page: only what is urgent")] = "ticket"
    repeat: Annotated[Seconds, Meta(description="told again after this, while it goes on and nobody took it")] = "4h"
    all_projects: Annotated[bool, Meta(description="alerts of every project, not only of its own")] = False
