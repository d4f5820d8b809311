"""Who may do what: permissions, roles, members of projects, and what a key is made for."""

from typing import Annotated, Final, Literal, get_args

import msgspec
from msgspec import Meta

from stoker.types.fields import Name

# resource:verb, a closed list: each operation of the API names one, and a role is a list of them.
Permission = Literal[
    "endpoints:read",  # endpoints, revisions, rollouts, objectives, quality, drift, why
    "endpoints:write",
    "endpoints:call",  # requests for inference, and what turned out to be true of the answers
    "releases:decide",  # promote, abort, pause, roll back
    "models:read",
    "models:push",  # versions, aliases, signatures
    "samples:read",  # what clients sent
    "samples:write",  # delete and replay them
    "traces:read",
    "metrics:read",
    "usage:read",  # what was used and what it cost, budgets, prices
    "incidents:read",  # alerts and receivers too
    "incidents:write",
    "gamedays:run",
    "logs:read",
    "audit:read",  # the journal, and the rows of the audit about it
    "secrets:read",  # which secrets are named where and how they stand; no value
    "policies:read",
    "policies:write",
    "keys:read",
    "keys:write",
    "projects:read",
    "projects:write",  # the project itself, its members and roles, whom it trusts
    "platform:read",  # nodes, logs of processes that belong to no project
    "platform:write",
]
PERMISSIONS: Final[tuple[Permission, ...]] = get_args(Permission)
# What is decided for one endpoint. A key that is made for some endpoints holds nothing else.
OF_ENDPOINTS: Final[frozenset[Permission]] = frozenset(
    (
        "endpoints:read",
        "endpoints:write",
        "endpoints:call",
        "releases:decide",
        "samples:read",
        "samples:write",
        "traces:read",
        "gamedays:run",
    )
)
EVERYWHERE: Final = "*"  # the project of what holds in all of them, and of the platform itself
MEMBERS_MAX: Final = 1000  # of one project
ROLES_MAX: Final = 1000
PATTERNS_MAX: Final = 100

SUBJECT_PATTERN: Final = (
    r"^(user|service):[A-Za-z0-9]([A-Za-z0-9._@+-]{0,119}|[a-z0-9-]{0,62}:[A-Za-z0-9._@+~-]{1,100})(?!\n)$"
)

Subject = Annotated[
    str,
    Meta(
        pattern=SUBJECT_PATTERN,
        description="who: user:alice@example.org, service:ci; user:PROVIDER:SUB is who a provider says",
    ),
]
Pattern = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9*?][a-z0-9*?-]{0,62}(?!\n)$",
        description="an endpoint's name; * stands for any part, ? for one",
    ),
]


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody in a project. Their keys can do what the role says, at the most."""

    subject: Subject
    role: Annotated[Name, Meta(description="viewer, caller, deployer, operator, owner, or a Role's name")]


Members = Annotated[
    tuple[Member, ...],
    Meta(max_length=MEMBERS_MAX, description="who may hold keys of it, and what those can do at the most"),
]


class RoleSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A role of your own: a list of permissions."""

    permissions: Annotated[tuple[Permission, ...], Meta(min_length=1, max_length=64)]
    description: Annotated[str, Meta(max_length=500)] = ""
    all_projects: Annotated[bool, Meta(description="can be given in every project, not only in its own")] = False


class KeyAccess(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a key may do: what its role says and its permissions say, together; of its subject's role at the most."""

    role: Annotated[str, Meta(max_length=63, description="a role's name; empty: the permissions alone")] = ""
    permissions: Annotated[tuple[Permission, ...], Meta(max_length=64)] = ()
    endpoints: Annotated[
        tuple[Pattern, ...], Meta(max_length=PATTERNS_MAX, description="names or patterns; none: all of its project")
    ] = ()
    everywhere: Annotated[bool, Meta(description="in every project, and for the platform itself")] = False


ADMIN: Final = KeyAccess(role="owner", everywhere=True)
# What a key of a project has that is made without a word about it: it calls, and reads what its calls left behind.
USUAL: Final = KeyAccess(role="caller", permissions=("traces:read", "metrics:read", "usage:read"))


class Grant(msgspec.Struct, frozen=True):
    """What somebody may do, worked out: permissions in one project, or everywhere; endpoints: no patterns, all.

    others: what they may do in other places too, without others of their own. A key has none; a person may.
    """

    project: str
    permissions: frozenset[Permission]
    endpoints: tuple[str, ...] = ()
    others: tuple["Grant", ...] = ()

    @property
    def is_everywhere(self) -> bool:
        """Whether it holds in every project and for the platform."""
        return self.project == EVERYWHERE

    @property
    def only(self) -> str | None:
        """The one project that it sees; None for all."""
        return None if self.project == EVERYWHERE else self.project

    @property
    def is_admin(self) -> bool:
        """Whether nothing is out of its reach."""
        return self.is_everywhere and len(self.permissions) == len(PERMISSIONS)


EVERYTHING: Final = Grant(EVERYWHERE, frozenset(PERMISSIONS))  # the platform's own user, over the socket
