"""What claims come to: every check alone, against the words of the standards, and grants that never widen."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import identity as rules
from stoker.core.access import ROLES, beyond, decide, foremost
from stoker.types.access import EVERYWHERE, PERMISSIONS, Grant, Member
from stoker.types.identity import ClaimGrant, GrantRoute, ProviderRoute
from stoker.types.keys import UNLIMITED, KeyLimits

ISSUER, NOW_S = "https://id.example.org", 1_700_000_000.0
GOOD: dict[str, Any] = {"iss": ISSUER, "sub": "s", "aud": "api", "exp": NOW_S + 60}


def refused(skew_s: float = 60.0, **claims: Any) -> str | None:
    said = {name: value for name, value in {**GOOD, **claims}.items() if value is not None}
    return rules.refused(said, ISSUER, ("api", "other"), skew_s, NOW_S)


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({}, None),
        ({"aud": ["x", "other"]}, None),
        ({"aud": []}, "audience"),
        ({"aud": None}, "audience"),
        ({"aud": "API"}, "audience"),
        ({"aud": {"api": 1}}, "audience"),
        ({"aud": [["api"]]}, "audience"),
        ({"iss": ISSUER + "/"}, "issuer"),
        ({"iss": [ISSUER]}, "issuer"),
        ({"sub": None}, "claims"),
        ({"sub": ""}, "claims"),
        ({"sub": 5}, "claims"),
        ({"sub": "s" * 256}, "claims"),
        ({"exp": None}, "claims"),
        ({"exp": "9999999999"}, "claims"),
        ({"exp": True}, "claims"),
        ({"exp": float("inf")}, "claims"),
        ({"exp": 10**40}, "claims"),
        ({"nbf": "now"}, "claims"),
        ({"iat": []}, "claims"),
    ],
)
def test_each_claim_is_what_it_must_be(claims: dict[str, Any], reason: str | None) -> None:
    assert refused(**claims) == reason


moments = st.none() | st.floats(-1e6, 1e6)


@given(exp=st.floats(-1e6, 1e6), nbf=moments, iat=moments, skew_s=st.floats(0, 300))
def test_a_token_holds_from_its_beginning_to_its_end_give_or_take_the_skew(
    exp: float, nbf: float | None, iat: float | None, skew_s: float
) -> None:
    found = refused(
        skew_s,
        exp=NOW_S + exp,
        nbf=None if nbf is None else NOW_S + nbf,
        iat=None if iat is None else NOW_S + iat,
    )
    is_over = NOW_S + exp + skew_s <= NOW_S
    is_early = any(each is not None and NOW_S + each - skew_s > NOW_S for each in (nbf, iat))
    assert found == ("expired" if is_over else "early" if is_early else None)
    if found is None:
        assert refused(0.0, exp=NOW_S + exp + skew_s, nbf=None, iat=None) is None, "the skew is all that it adds"


@given(st.text(min_size=1, max_size=255), st.text(min_size=1, max_size=255))
def test_two_people_of_one_provider_are_never_one_subject_and_each_can_be_a_member(one: str, other: str) -> None:
    names = [rules.subject_of("user", "corp", each) for each in (one, other)]
    assert (names[0] == names[1]) == (one == other)
    assert len(names[0]) <= 128
    assert msgspec.convert({"subject": names[0], "role": "viewer"}, Member).subject == names[0]
    assert rules.subject_of("user", "corp-2", one) != names[0]
    assert len(rules.account_of(names[0])) == 16


def test_a_subject_in_the_form_of_a_digest_is_not_the_subject_of_that_digest() -> None:
    digest = rules.subject_of("user", "corp", "a b").rpartition(":")[2]
    assert rules.subject_of("user", "corp", digest) != rules.subject_of("user", "corp", "a b")


@pytest.mark.parametrize(
    ("name", "wanted", "claims", "has"),
    [
        ("groups", "ml", {"groups": ["a", "ml"]}, True),
        ("groups", "ml", {"groups": "ml"}, True),
        ("groups", "ml", {"groups": "ml-other"}, False),
        ("groups", "ml*", {"groups": ["ml-other"]}, True),
        ("groups", "ml", {"groups": {"ml": 1}}, False),
        ("groups", "ml", {"groups": [["ml"]]}, False),
        ("realm_access.roles", "r", {"realm_access": {"roles": ["r"]}}, True),
        ("https://x.example/roles", "r", {"https://x.example/roles": ["r"]}, True),
        ("a.b", "r", {"a.b": "no", "a": {"b": "r"}}, False),  # the whole name says, where it is there
        ("admin", "true", {"admin": True}, True),
        ("admin", "true", {"admin": 1}, False),
        ("sub", "repo:us/*", {"sub": "repo:us/app:main"}, True),
        ("groups", "ml", {"groups": [str(n) for n in range(1000)] + ["ml"]}, False),  # past what is looked at
        ("missing", "*", {}, False),
    ],
)
def test_a_claim_says_what_it_says(name: str, wanted: str, claims: dict[str, Any], has: bool) -> None:
    assert rules.says(claims, name, wanted) is has


@pytest.mark.parametrize(
    ("claims", "assumed", "email"),
    [
        ({"email": "A@Example.org", "email_verified": True}, False, "a@example.org"),
        ({"email": "a@example.org", "email_verified": "true"}, False, "a@example.org"),
        ({"email": "a@example.org"}, False, ""),
        ({"email": "a@example.org"}, True, "a@example.org"),
        ({"email": "a@example.org", "email_verified": False}, True, ""),
        ({"email": "a@evil.org@example.org", "email_verified": True}, False, ""),
        ({"email": ["a@example.org"], "email_verified": True}, False, ""),
    ],
)
def test_only_an_address_that_is_vouched_for_is_one(claims: dict[str, Any], assumed: bool, email: str) -> None:
    assert rules.email_of(claims, is_assumed=assumed) == email


def test_grants_are_those_of_memberships_and_claims_together_and_of_projects_that_there_are() -> None:
    members = {"a": (Member("user:c:s", "viewer"), Member("user:c:x", "owner")), "b": ()}
    mapped = (
        ClaimGrant("groups", "ops", "operator", project="b"),
        ClaimGrant("groups", "ops", "viewer", everywhere=True),
        ClaimGrant("groups", "ops", "owner", project="gone"),
        ClaimGrant("groups", "else", "owner", everywhere=True),
        ClaimGrant("groups", "ops", "no-such-role", project="a"),
    )
    found = {
        each.project: each.permissions for each in rules.grants("user:c:s", {"groups": ["ops"]}, mapped, members, {})
    }
    assert found == {"a": ROLES["viewer"], "b": ROLES["operator"], EVERYWHERE: ROLES["viewer"]}
    assert rules.grants("user:c:nobody", {}, mapped, members, {}) == ()


roles_ = st.sampled_from([frozenset[Any](each) for each in ROLES.values()])
some_grants = st.lists(st.builds(Grant, st.sampled_from(["a", "b", "c", EVERYWHERE]), roles_), max_size=4)


@given(some_grants, st.sampled_from(PERMISSIONS), st.sampled_from(["a", "b", "z", EVERYWHERE]), roles_)
def test_several_grants_allow_what_one_of_them_does_and_no_more(
    given_: list[Grant], permission: Any, project: str, asked: frozenset[Any]
) -> None:
    one = foremost(given_, (permission,), "b")
    alone = {decide(each, permission, project) for each in given_}
    expected = next((each for each in ("allowed", "forbidden") if each in alone), None)
    if given_:
        assert decide(one, permission, project) == (expected or "hidden")
    assert set(beyond(Grant(project, asked), one)) == {
        each for each in asked if not any(decide(held, each, project) == "allowed" for held in given_)
    }
    if any(permission in each.permissions for each in given_):
        assert permission in one.permissions, "what lists are narrowed by has what the door opened for"
    if one.only is None:
        assert permission in one.permissions or not any(permission in each.permissions for each in given_)


def route(**given_: Any) -> ProviderRoute:
    return ProviderRoute("c", ISSUER, ("api",), ("RS256",), "user", (), 0.0, **given_)


def test_a_caller_of_several_projects_has_one_of_its_own_and_names_the_others() -> None:
    made = rules.caller("user:c:s", ("b", "a"), sees=False, limits=UNLIMITED, unsampled=(), ends_s=9.0)
    assert (made.project, made.projects, made.is_admin, made.calls) == ("a", ("b",), False, True)
    made = rules.caller("user:c:s", ("b", "default"), sees=False, limits=UNLIMITED, unsampled=(), ends_s=9.0)
    assert (made.project, made.projects) == ("default", ("b",))
    made = rules.caller("user:c:s", ("*", "b"), sees=True, limits=UNLIMITED, unsampled=(), ends_s=9.0)
    assert (made.is_admin, made.sees) == (True, True)
    nobody = rules.caller("user:c:s", (), sees=False, limits=UNLIMITED, unsampled=(), ends_s=9.0)
    assert (nobody.calls, nobody.is_admin) == (False, False)


def test_of_a_tenant_that_is_never_sampled_nothing_is_kept_in_whichever_project() -> None:
    limits = KeyLimits(tenant="acme")
    made = rules.caller("user:c:s", ("a", "b"), sees=False, limits=limits, unsampled=("b/acme",), ends_s=9.0)
    assert not made.limits.samples


def test_claims_open_what_they_are_mapped_to() -> None:
    mapped = route(grants=(GrantRoute("groups", "ml", "a"), GrantRoute("groups", "ops", "", sees=True)))
    assert rules.calls({"groups": ["ml"]}, mapped) == (("a",), False)
    assert rules.calls({"groups": ["ops"]}, mapped) == ((), True)
    assert rules.identity({**GOOD, "email": "a@b.c"}, route(email_domains=("b.c",))) is None
    held = rules.identity({**GOOD, "email": "a@b.c", "email_verified": True}, route(email_domains=("b.c",)))
    assert held is not None
    assert (held.subject, held.ends_s) == ("user:c:s", GOOD["exp"] + 60)
