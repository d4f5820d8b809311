"""Identity providers as `stoker get providers` shows them."""

from collections.abc import Sequence

import click

from stoker.cli.output import age, columns, items, show
from stoker.client import signed_in
from stoker.client.control import ControlClient
from stoker.types.errors import NotFound
from stoker.types.identity import ProviderView

_COLOURS = {"ok": "green", "stale": "yellow", "failing": "red", "unknown": "yellow"}


def listed(control: ControlClient, name: str | None, output: str) -> None:
    """Print the providers, or one."""
    found = [one for one in signed_in.providers(control.connection) if name in (None, one.name)]
    if name is not None and not found:
        raise NotFound(f"there is no identity provider {name!r}; `stoker get providers` lists them")
    show(items(found), output, lambda: table(found))


def table(providers: Sequence[ProviderView]) -> str:
    """Return providers with how each does."""
    rows = [
        (
            one.name,
            one.issuer,
            click.style(one.state, fg=_COLOURS[one.state]),
            str(one.keys),
            age(one.fetched_at_s) if one.fetched_at_s else "-",
            str(one.sessions),
            one.problem or ("" if one.secret in ("", "ok") else one.secret) or "-",
        )
        for one in providers
    ]
    header = ("NAME", "ISSUER", "STATE", "KEYS", "FETCHED", "SESSIONS", "PROBLEM")
    return columns(header, rows, empty="no identity providers; apply a manifest of kind IdentityProvider")
