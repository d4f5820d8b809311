"""What is said of a project: who is in it, what bounds it, what it demands of models."""

from typing import Annotated

import msgspec
from msgspec import Meta

from stoker.types.access import Members
from stoker.types.quotas import ProjectQuota
from stoker.types.secrets import SecretPattern
from stoker.types.signing import SignaturePolicy


class ProjectSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A team: its endpoints and its keys live in it."""

    description: str = ""
    unsampled_tenants: Annotated[
        tuple[str, ...],
        Meta(max_length=1000, description="tenants of whose requests nothing is ever kept as a sample, whatever key"),
    ] = ()
    quota: Annotated[ProjectQuota, Meta(description="the most that its endpoints may ask for together")] = (
        ProjectQuota()
    )
    signatures: Annotated[
        SignaturePolicy,
        Meta(
            description="whether the versions it serves must be signed by a key it trusts: off, warn (serve, and say"
            " so), required (do not serve)"
        ),
    ] = "off"
    secrets: Annotated[
        tuple[SecretPattern, ...],
        Meta(max_length=100, description="secrets its manifests may name besides its own area; the platform's to say"),
    ] = ()
    members: Members = ()
