"""Tokens at a gateway: verified once, known until they end, and never longer than what they were judged by holds."""

import json
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from stoker.gateway import tokens as module
from stoker.gateway.directory import Directory
from stoker.gateway.quotas import GUESTS_MAX, Quotas
from stoker.gateway.tokens import VERIFIED_MAX, Tokens
from stoker.protocol.tokens import Keyring, keys_of
from stoker.telemetry.metrics import Registry
from stoker.types.errors import RateLimited, TooManyAtOnce, Unauthenticated, Unavailable
from stoker.types.identity import GrantRoute, ProviderRoute
from stoker.types.keys import KeyLimits
from stoker.types.routes import QuotaRoute, RouteTable
from tests import oidc
from tests.oidc import Key, Provider


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with oidc.serving() as made:
        yield made


def route(provider: Provider, *keys: Key, **given: Any) -> ProviderRoute:
    published = keys_of(json.dumps({"keys": [each.public() for each in keys or provider.keys]}).encode())
    named = {"members": {"user:corp:alice": ("default",)}, "keys_until_s": 4e9, **given}
    return ProviderRoute("corp", provider.issuer, ("stoker-api",), ("RS256",), "user", published, **named)


class World:
    def __init__(self, *routes: ProviderRoute) -> None:
        self.asked: list[str] = []
        self.tokens = Tokens(Registry("gateway-0"), Keyring, self.asked.append)
        self.directory = Directory(Registry("gateway-0"), lambda *_: None, tokens=self.tokens)
        self.follow(*routes)

    def follow(self, *routes: ProviderRoute) -> None:
        assert self.directory.apply(RouteTable(self.directory.version + 1, providers=routes))

    def find(self, token: str, address: str = "") -> Any:
        return self.directory.find_key(token.encode(), address)


def test_a_token_is_a_caller_until_it_ends(provider: Provider) -> None:
    world, token = World(route(provider)), provider.token()
    found = world.find(token)
    assert (found.project, found.calls, found.is_admin) == ("default", True, False)
    assert 3600 <= found.expires_at_s - time.time() <= 3700
    assert world.find(token) is found, "the second time it is one look-up"
    with pytest.raises(Unauthenticated):
        world.find(provider.token(exp=1))
    assert world.find("a.b.c") is None
    soon = World(route(provider, keys_until_s=time.time() + 5))
    assert soon.find(token).expires_at_s < time.time() + 6, "no longer than the keys are believed"


def test_a_header_is_remembered_whole_and_however_it_is_written_there_is_room(provider: Provider) -> None:
    world, token = World(route(provider)), provider.token().encode()
    found = world.directory.find_bearer(b"Bearer " + token, "")
    assert found is world.directory.find_bearer(b"Bearer " + token, "")
    for spaces in range(10_000):
        assert world.directory.find_bearer(b"Bearer " + b" " * (spaces % 3000) + token, "") is not None
    assert len(world.directory._known) <= 4097
    assert world.directory.find_bearer(b"Bearer", "") is world.directory.find_bearer(b"", "") is None


def test_a_new_table_costs_no_signature_and_changes_what_it_comes_to_at_once(provider: Provider) -> None:
    world, token = World(route(provider)), provider.token()
    world.find(token)
    world.follow(route(provider, members={"user:corp:alice": ("team", "vision")}))
    assert world.tokens.knows(token.encode())
    assert (world.find(token).project, world.find(token).projects) == ("team", ("vision",))
    world.follow(route(provider, members={}))
    assert not world.find(token).calls


def test_what_a_token_was_judged_by_ends_it_when_it_changes(provider: Provider) -> None:
    changes: list[dict[str, Any]] = [
        {"audiences": ("other",)}, {"issuer": "https://other.example"}, {"algorithms": ("ES256",)},
        {"email_domains": ("example.com",)}, {"keys": ()}, {"keys_until_s": 1.0},
    ]  # fmt: skip
    for change in changes:
        world, token = World(route(provider)), provider.token()
        assert world.find(token) is not None
        world.follow(msgspec.structs.replace(route(provider), **change))
        try:
            found = world.find(token)
        except Unavailable:
            continue
        assert found is None or found.expires_at_s < time.time(), change
    world.follow()
    assert world.find(token) is None


def test_claims_are_looked_at_again_when_what_they_are_mapped_to_changes(provider: Provider) -> None:
    world, token = World(route(provider, members={})), provider.token(groups=["ml"])
    assert not world.find(token).calls
    world.follow(route(provider, members={}, grants=(GrantRoute("groups", "ml", "vision"),)))
    assert world.find(token).project == "vision"


def test_for_a_key_that_is_not_known_the_provider_is_asked_once_and_the_caller_told_to_wait(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, two = World(route(provider)), Key("two", private=oidc._RSA[1])
    token = provider.token(key=two)
    for _ in range(3):
        with pytest.raises(Unavailable):
            world.find(token)
    assert world.asked == ["corp"]
    monkeypatch.setattr(module, "PENDING_S", 0.0)
    assert world.find(token) is None
    world.follow(route(provider, provider.keys[0], two))
    assert world.find(token).project == "default"
    for kid in range(200):
        assert world.find(provider.token(headers={"kid": str(kid)})) is None
    assert len(world.tokens._unknown) <= module.ASKED_MAX


def test_who_tried_many_is_not_given_a_signature_to_verify_but_who_was_good_goes_on(provider: Provider) -> None:
    world, good, new = World(route(provider)), provider.token(), provider.token(sub="bob")
    assert world.find(good, "10.0.0.1") is not None
    for _ in range(12):
        world.directory.refused("10.0.0.1")
    world.follow(route(provider, members={"user:corp:alice": ("default",), "user:corp:bob": ("default",)}))
    assert world.find(new, "10.0.0.1") is None
    assert world.find(new, "10.0.0.2") is not None
    assert world.find(good, "10.0.0.1") is not None


def test_what_is_kept_of_tokens_is_bounded(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    assert VERIFIED_MAX <= 10_000
    monkeypatch.setattr(module, "VERIFIED_MAX", 3)
    world = World(route(provider))
    made = [provider.token(sub=f"s{n}") for n in range(6)]
    for token in made:
        world.find(token)
    assert [world.tokens.knows(each.encode()) for each in made] == [False, False, False, True, True, True]


def test_who_comes_with_a_token_is_held_to_what_their_provider_says_and_there_is_room_for_so_many(
    provider: Provider,
) -> None:
    limited = route(provider, limits=KeyLimits(requests_per_s=1.0))
    world, quotas_ = World(limited), Quotas(1)
    assert not quotas_
    quotas_.apply(RouteTable(1, providers=(limited,)))
    assert quotas_
    caller = world.find(provider.token())
    held = quotas_.find(caller)
    assert held is not None
    quotas_.take(held, 0.0, 0.0)
    assert quotas_.find(world.find(provider.token(jti="another"))) is held, "it is theirs, not the token's"
    with pytest.raises(RateLimited):
        quotas_.take(held, 0.0, 0.0)
    quotas_.apply(RouteTable(2, providers=(limited,)))
    again = quotas_.find(caller)
    assert again is not None
    with pytest.raises(RateLimited):
        quotas_.take(again, 0.0, 0.0)  # a new table forgets nothing of what they used
    for n in range(GUESTS_MAX + 10):
        quotas_.find(msgspec.structs.replace(caller, key=f"oidc-{n}"))
    assert len(quotas_._guests) <= GUESTS_MAX
    assert len(quotas_._accounts) <= GUESTS_MAX
    quotas_.apply(RouteTable(3, providers=(route(provider),)))
    assert quotas_.find(world.find(provider.token())) is None
    assert not quotas_


def test_who_comes_with_a_token_is_held_to_the_limits_of_their_project_too(provider: Provider) -> None:
    world, quotas_ = World(route(provider)), Quotas(1)
    caller = world.find(provider.token())
    shared = QuotaRoute(str(caller.project), requests_at_once=1)
    quotas_.apply(RouteTable(1, providers=(route(provider),), quotas=(shared,)))
    held = quotas_.find(caller)
    assert held is not None
    quotas_.take(held, 0.0, 0.0)
    other = quotas_.find(msgspec.structs.replace(caller, key="oidc-other"))
    assert other is not None
    with pytest.raises(TooManyAtOnce):
        quotas_.take(other, 0.0, 0.0)
    held.release()
    quotas_.take(other, 0.0, 0.0)
