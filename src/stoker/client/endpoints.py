"""Endpoints read and written with the tag of what was read, so that two who change one lose nothing of each other."""

from typing import Final

from stoker.client.connection import decode
from stoker.client.control import ControlClient
from stoker.client.views import ApplyResult, EndpointDetail

NEW: Final = "*"  # the tag of what is not there
_JSON: Final = {"Content-Type": "application/json"}


class EndpointWritten(EndpointDetail, frozen=True, kw_only=True):
    """An endpoint just after it was written, and what that did."""

    applied: ApplyResult


def read(control: ControlClient, project: str, name: str) -> tuple[EndpointDetail, str]:
    """Return an endpoint and its tag, "" from a control that says none. Raises NotFound."""
    answer = control.connection.exchange("GET", _path(project, name))
    headers = {key.lower(): value for key, value in answer.headers.items()}
    # A proxy that compresses makes tags weak; this one is of what was asked for, whatever the bytes.
    return decode(answer.body, EndpointDetail), headers.get("etag", "").removeprefix("W/")


def put(
    control: ControlClient, project: str, name: str, manifest: bytes, *, tag: str = "", over_budget: bool = False
) -> EndpointWritten:
    """Create an endpoint, or replace its spec; answers when control has looked at it.

    Args:
        manifest: of the endpoint, JSON or YAML.
        tag: as `read` said it: only if it is still that. NEW: only if it is not there. "": whatever is there.
        over_budget: also make a revision that the policy of an error budget freezes.

    Raises:
        PreconditionFailed: it is something else meanwhile; nothing was changed.
        ManifestRefused, PolicyRefused: with everything that is wrong.
    """
    condition = {"If-None-Match": NEW} if tag == NEW else {"If-Match": tag} if tag else {}
    answer = control.connection.exchange(
        "PUT", _path(project, name), query={"over_budget": over_budget}, body=manifest, headers=_JSON | condition
    )
    return decode(answer.body, EndpointWritten)


def _path(project: str, name: str) -> str:
    return f"/api/v1/projects/{project}/endpoints/{name}"
