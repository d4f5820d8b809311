"""Who may do what: an operator's table, and what must hold for every grant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import access
from stoker.core.access import ROLES, allows, beyond, decide, granted
from stoker.types.access import (
    ADMIN,
    EVERYTHING,
    EVERYWHERE,
    OF_ENDPOINTS,
    PERMISSIONS,
    USUAL,
    Grant,
    KeyAccess,
    Member,
    Permission,
)

NAMES = st.sampled_from(["a", "b", "chat-eu", "chat-us"])
PROJECTS = st.sampled_from(["one", "two"])
GRANTS = st.builds(
    Grant,
    st.sampled_from(["one", "two", EVERYWHERE]),
    st.frozensets(st.sampled_from(PERMISSIONS)),
    st.sampled_from([(), ("chat-*",), ("a",)]),
)


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("viewer", ["endpoints:read", "metrics:read"], ["endpoints:call", "samples:read", "keys:read", "audit:read"]),
        ("caller", ["endpoints:call"], ["endpoints:read", "metrics:read", "traces:read"]),
        ("deployer", ["endpoints:write", "releases:decide", "models:push"], ["samples:read", "projects:write"]),
        ("operator", ["samples:read", "logs:read", "incidents:write"], ["keys:write", "policies:write"]),
        ("owner", list(PERMISSIONS), []),
    ],
)
def test_roles_say_what_an_operator_expects(role: str, may: list[Permission], may_not: list[Permission]) -> None:
    assert set(may) <= ROLES[role]
    assert not set(may_not) & ROLES[role]


def test_what_worked_before_there_were_roles_works() -> None:
    assert granted(ADMIN, "default").is_admin
    before = granted(USUAL, "team")
    assert before.permissions == {"endpoints:call", "traces:read", "metrics:read", "usage:read"}
    assert all(allows(before, permission, "team") for permission in before.permissions)


def test_a_key_of_a_subject_shrinks_with_the_subject() -> None:
    key = KeyAccess(role="owner")
    members = [Member("user:a", "viewer"), Member("user:b", "owner"), Member("user:a", "caller")]
    assert granted(key, "p", "user:a", members).permissions == ROLES["viewer"] | ROLES["caller"]
    assert granted(key, "p", "user:b", members).permissions == set(PERMISSIONS)
    assert not granted(key, "p", "user:gone", members).permissions


def test_a_role_of_ones_own_holds_in_its_project_and_never_replaces_a_built_in_one() -> None:
    roles: access.Roles = {
        ("p", "labeller"): frozenset({"samples:read"}),
        ("p", "viewer"): frozenset(PERMISSIONS),
        (EVERYWHERE, "auditor"): frozenset({"audit:read"}),
    }
    assert granted(KeyAccess(role="labeller"), "p", roles=roles).permissions == {"samples:read"}
    assert not granted(KeyAccess(role="labeller"), "other", roles=roles).permissions
    assert not granted(KeyAccess(role="labeller", everywhere=True), "p", roles=roles).permissions
    assert granted(KeyAccess(role="viewer"), "p", roles=roles).permissions == ROLES["viewer"]
    assert granted(KeyAccess(role="auditor"), "other", roles=roles).permissions == {"audit:read"}


@given(GRANTS, st.sampled_from(PERMISSIONS), PROJECTS, NAMES)
def test_nothing_is_allowed_in_a_project_that_the_grant_is_not_of(
    grant: Grant, permission: Permission, project: str, name: str
) -> None:
    decision = decide(grant, permission, project, name)
    if grant.project not in (project, EVERYWHERE):
        assert decision == "hidden"
    assert (decision == "allowed") <= (permission in grant.permissions)


@given(GRANTS, st.sampled_from(PERMISSIONS))
def test_the_platform_is_only_for_who_is_granted_everywhere(grant: Grant, permission: Permission) -> None:
    assert allows(grant, permission, EVERYWHERE) == (
        grant.is_everywhere and permission in grant.permissions and not grant.endpoints
    )


@given(GRANTS, st.sampled_from(PERMISSIONS), PROJECTS)
def test_a_key_for_some_endpoints_can_do_nothing_to_a_whole_project(
    grant: Grant, permission: Permission, project: str
) -> None:
    if grant.endpoints:
        assert not allows(grant, permission, project)
        assert decide(grant, permission, grant.project, "b") == "hidden"


@given(GRANTS, GRANTS, st.sampled_from(PERMISSIONS), PROJECTS, st.sampled_from(["", "a", "b", "chat-eu"]))
def test_nobody_gives_what_they_do_not_have(
    own: Grant, asked: Grant, permission: Permission, project: str, name: str
) -> None:
    if not beyond(asked, own) and allows(asked, permission, project, name):
        assert allows(own, permission, project, name)
    assert not beyond(asked, EVERYTHING)


def test_what_is_not_about_an_endpoint_cannot_be_had_for_some() -> None:
    grant = granted(KeyAccess(role="owner", endpoints=("chat-*",)), "p")
    assert grant.permissions == OF_ENDPOINTS
    assert allows(grant, "endpoints:call", "p", "chat-eu")
    assert not allows(grant, "endpoints:call", "p", "other")
