"""What keys, projects and the platform have used in this gateway, within this gateway's share of each limit.

What a key is held to is found once, when the route table changes: its own limits, its project's and the platform's. A
request takes of all of them or of none.
"""

import math
import time
from collections.abc import Mapping
from typing import Final

from stoker.core.quota import Rate
from stoker.core.shares import Holder
from stoker.types.errors import RateLimited, TooManyAtOnce
from stoker.types.ids import KeyId
from stoker.types.keys import KeyLimits
from stoker.types.routes import KeyRoute, QuotaRoute, RouteTable

MINUTE_S: Final = 60.0
GUESTS_MAX: Final = 4096
_HEADERS: Final = b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%b\r\n"
_AT_ONCE: Final = b"x-ratelimit-limit-concurrency: %d\r\nx-ratelimit-remaining-concurrency: %d\r\n"
FADE: Final = 0.5  # of what was asked, once a second: the traffic of the last few seconds
# Of a second, for who found all places taken: nobody knows when one is free.
AGAIN_S: Final = 1.0
NEED_MIN: Final = 0.3  # a need that has faded to less is none: a place goes to another gateway after two seconds


class Account:
    """The rates of one key, project or the platform; None where there is no limit. whose: "this key"."""

    __slots__ = ("_share", "asked", "limits", "name", "requests", "requests_told", "tokens", "tokens_told", "whose")

    def __init__(self, name: str, whose: str, limits: QuotaRoute, share: float) -> None:
        self.name = name
        self.whose = whose
        self.limits = limits
        self.requests: Rate | None = None
        self.tokens: Rate | None = None
        self.asked = 0.0  # requests that came lately, let in or not
        self.requests_told = self.tokens_told = b""  # header lines of each rate, without what changes by the request
        self._share = 0.0
        self.follow(limits, share, 0.0)

    def follow(self, limits: QuotaRoute, share: float, now_s: float) -> None:
        """Go on with other limits, or another share of them."""
        if share == self._share and limits is self.limits and (self.requests or self.tokens):
            return
        self.limits, self._share = limits, share
        # A whole request and some tokens always fit into a share's burst; the rate is exact, the burst nearly.
        burst = max((limits.burst or max(limits.requests_per_s, 1.0)) * share, 1.0)
        self.requests = _rate(self.requests, limits.requests_per_s * share, burst, now_s)
        per_s = limits.tokens_per_min * share / MINUTE_S
        self.tokens = _rate(self.tokens, per_s, max(per_s * MINUTE_S, 1.0), now_s)
        self.requests_told = _told(b"requests", self.requests)
        self.tokens_told = _told(b"tokens", self.tokens)

    def wait_s(self, tokens: float, now_s: float) -> float:
        """Return how long until one request and `tokens` may be taken; 0 when they may be now."""
        requests_s = self.requests.wait_s(1.0, now_s) if self.requests is not None else 0.0
        tokens_s = self.tokens.wait_s(tokens, now_s) if self.tokens is not None else 0.0
        return max(requests_s, tokens_s)

    def refusal(self, tokens: float, now_s: float) -> RateLimited:
        """Return what is said to who has to wait."""
        requests_s = self.requests.wait_s(1.0, now_s) if self.requests is not None else 0.0
        tokens_s = self.tokens.wait_s(tokens, now_s) if self.tokens is not None else 0.0
        what = (
            f"{self.limits.requests_per_s:g} requests a second"
            if requests_s >= tokens_s
            else f"{self.limits.tokens_per_min:g} tokens a minute (this request may take about {tokens:.0f})"
        )
        return RateLimited(f"{self.whose} may ask for {what}", retry_after_s=max(requests_s, tokens_s))

    def take(self, tokens: float, now_s: float) -> None:
        """Take one request and `tokens`."""
        if self.requests is not None:
            self.requests.take(1.0, now_s)
        if self.tokens is not None:
            self.tokens.take(tokens, now_s)


class Places:
    """The requests of one key, project or the platform that run at once in this gateway."""

    __slots__ = ("limit", "most", "name", "need", "refused", "running", "whose")

    def __init__(self, name: str, whose: str, limit: int) -> None:
        self.name = name
        self.whose = whose
        self.limit = limit  # in all gateways
        self.running = 0
        self.most = 0  # of them at once, since the last question
        self.refused = 0  # since then
        self.need = 0.0

    def needed(self) -> float:
        """Return how many places were needed lately, and let it fade. Called once a second."""
        self.need = max(float(min(self.most + self.refused, self.limit)), self.need * FADE)
        self.most, self.refused = self.running, 0
        if self.need < NEED_MIN:
            self.need = 0.0
        return self.need

    def refusal(self) -> TooManyAtOnce:
        """Return what is said to who finds no place."""
        return TooManyAtOnce(
            f"{self.whose} may have {self.limit} requests running at once, and as many run; wait for one to end",
            retry_after_s=AGAIN_S,
        )


class Holding:
    """All limits of one key: its own, its project's and the platform's, the narrowest first.

    presses_until_s: it was refused lately, so it asks for all it may have and more.
    """

    __slots__ = ("accounts", "counts_tokens", "places", "presses_until_s")

    def __init__(self, accounts: tuple[Account, ...], places: tuple[Places, ...]) -> None:
        self.accounts = accounts
        self.places = places
        self.presses_until_s = 0.0
        self.counts_tokens = any(account.limits.tokens_per_min > 0 for account in accounts)

    def headers(self, quotas: "Quotas", now_s: float) -> bytes:
        """Return the header lines that tell the caller where it stands, as OpenAI's SDKs know them: the tightest."""
        lines = b""
        requests: Rate | None = None
        tokens: Rate | None = None
        requests_left = tokens_left = 0
        requests_told = tokens_told = b""
        for account in self.accounts:
            rate = account.requests
            if rate is not None:
                left = rate.left(now_s)
                if requests is None or left < requests_left:
                    requests, requests_left, requests_told = rate, left, account.requests_told
            rate = account.tokens
            if rate is not None:
                left = rate.left(now_s)
                if tokens is None or left < tokens_left:
                    tokens, tokens_left, tokens_told = rate, left, account.tokens_told
        if requests is not None:
            lines += requests_told % (requests_left, _duration(requests.full_in_s(now_s)))
        if tokens is not None:
            lines += tokens_told % (tokens_left, _duration(tokens.full_in_s(now_s)))
        if self.places:
            lines += self._at_once(quotas, now_s)
        return lines

    def _at_once(self, quotas: "Quotas", now_s: float) -> bytes:
        limit, least = 0, -1
        for places in self.places:
            here = quotas.holder.places(places.name, places.limit, now_s)
            left = max(here - places.running, 0)
            if least < 0 or left < least:
                limit, least = here, left
        return _AT_ONCE % (limit, least)

    def release(self) -> None:
        """Give back the places that a request had."""
        for places in self.places:
            places.running -= 1


class Quotas:
    """The limits of all keys of the route table. index: this gateway's number of `gateways`."""

    def __init__(self, gateways: int, index: int = 0) -> None:
        self.holder = Holder(gateways, index)
        self._accounts: dict[str, Account] = {}
        self._places: dict[str, Places] = {}
        self._holdings: dict[KeyId, Holding] = {}
        self._shared: dict[str, tuple[str, ...]] = {}  # names of what a project's keys share
        self._whole: tuple[str, ...] = ()
        self._guests: dict[str, QuotaRoute] = {}  # who comes with a token and is no row of the table, by key
        self._seats: dict[KeyId, Holding] = {}  # what they are held to
        self._limits_guests = False
        self._ending: dict[str, Places] = {}  # of limits that are gone; they may come back while requests still run

    def __bool__(self) -> bool:
        return bool(self._holdings) or self._limits_guests

    def apply(self, table: RouteTable) -> None:
        """Follow the keys and quotas of `table`. What runs keeps its places, also where a limit is changed."""
        now_s = time.monotonic()
        accounts: dict[str, Account] = {}
        places: dict[str, Places] = {}
        self._shared, self._whole, self._seats = {}, (), {}
        for quota in table.quotas:
            name = f"project:{quota.project}" if quota.project else "platform:"
            whose = f"project {quota.project!r}" if quota.project else "all of the platform"
            self._follow(name, whose, quota, (accounts, places), now_s)
            if quota.project:
                self._shared[quota.project] = (name,)
            else:
                self._whole = (name,)
        holdings: dict[KeyId, Holding] = {}
        for key in table.keys:
            self._follow(str(key.key), "this key", _limits(key), (accounts, places), now_s)
            holding = self._holding(key, accounts, places)
            if holding is not None:
                holdings[key.key] = holding
        is_held = bool(self._shared or self._whole)
        self._limits_guests = any(is_held or _limits_any(each.limits) for each in table.providers)
        if not self._limits_guests:
            self._guests = {}
        for name, limits in self._guests.items():
            self._follow(name, "this key", limits, (accounts, places), now_s)
        ending = {**self._ending, **self._places}
        self._ending = {name: each for name, each in ending.items() if each.running and name not in places}
        self._accounts, self._places, self._holdings = accounts, places, holdings

    def find(self, key: KeyRoute) -> Holding | None:
        """Return what `key` is held to; None for one without limits."""
        found = self._holdings.get(key.key)
        if found is None and self._limits_guests and not key.sha256:
            found = self._seats.get(key.key) or self._seat(key)
        return found

    def take(self, holding: Holding, tokens: float, now_s: float) -> None:
        """Take a place and what the rates ask for. Raises Busy, and takes nothing, when any of it is not there."""
        holder = self.holder
        for account in holding.accounts:
            account.follow(account.limits, holder.share(account.name, now_s), now_s)
            account.asked += 1.0
        longest: Account | None = None
        longest_s = 0.0
        for account in holding.accounts:
            wait_s = account.wait_s(tokens, now_s)
            if wait_s > longest_s:
                longest, longest_s = account, wait_s
        if longest is not None:
            raise longest.refusal(tokens, now_s)
        for places in holding.places:
            if places.running >= holder.places(places.name, places.limit, now_s):
                places.refused += 1
                raise places.refusal()
        for account in holding.accounts:
            account.take(tokens, now_s)
        for places in holding.places:
            places.running += 1
            places.most = max(places.most, places.running)

    def held(self, now_s: float) -> dict[str, float]:
        """Return what this gateway holds of limits, where that is not even, for the next question."""
        running = {places.name: (places.running, places.limit) for places in self._places.values()}
        return self.holder.held(now_s, running)

    def limits(self, *told: Mapping[str, float]) -> dict[str, int]:
        """Return the limits of what is split in whole places, of names that control is told something of."""
        names = {name for each in told for name in each}
        return {places.name: places.limit for places in self._places.values() if places.name in names}

    def asked(self) -> dict[str, float]:
        """Return what was asked of each limit lately, and let it fade. Called once a second."""
        found: dict[str, float] = {}
        for account in self._accounts.values():
            if account.asked > 0.01:
                found[account.name] = account.asked
                account.asked *= FADE
        for places in self._places.values():
            need = places.needed()
            if need:
                found[places.name] = need
        return found

    def running(self) -> dict[str, int]:
        """Return how many requests run under limits of requests at once: of keys, of projects, of the platform."""
        found = {"key": 0, "project": 0, "platform": 0}
        for places in (*self._places.values(), *self._ending.values()):
            scope, colon, _ = places.name.partition(":")
            found[scope if colon else "key"] += places.running
        return found

    def _seat(self, key: KeyRoute) -> Holding | None:
        """Return what somebody is held to who is no row of the table; over GUESTS_MAX who came first begins anew."""
        name, limits = str(key.key), _limits(key)
        if _limits_any(key.limits) and self._guests.get(name) != limits:
            if name not in self._guests and len(self._guests) >= GUESTS_MAX:
                self._forget(next(iter(self._guests)))
            self._guests[name] = limits
            own: tuple[dict[str, Account], dict[str, Places]] = ({}, {})
            self._follow(name, "this key", limits, own, time.monotonic())
            self._accounts.update(own[0])
            self._places.update(own[1])
        found = self._holding(key, self._accounts, self._places)
        if found is not None:
            if len(self._seats) >= GUESTS_MAX:
                self._seats.clear()
            self._seats[key.key] = found
        return found

    def _forget(self, guest: str) -> None:
        del self._guests[guest]
        self._accounts.pop(guest, None)
        places = self._places.pop(guest, None)
        if places is not None and places.running:
            self._ending[guest] = places
        self._seats.clear()

    def _holding(self, key: KeyRoute, accounts: dict[str, Account], places: dict[str, Places]) -> Holding | None:
        names = (str(key.key), *self._shared.get(key.project, ()), *self._whole)
        own = tuple(accounts[name] for name in names if name in accounts)
        seats = tuple(places[name] for name in names if name in places)
        return Holding(own, seats) if own or seats else None

    def _follow(
        self,
        name: str,
        whose: str,
        limits: QuotaRoute,
        found: tuple[dict[str, Account], dict[str, Places]],
        now_s: float,
    ) -> None:
        """Go on with what is limited under `name`, or begin; put it into `found`."""
        accounts, places = found
        if (limits.requests_per_s > 0 or limits.tokens_per_min > 0) and name not in accounts:
            share = self.holder.share(name, now_s)
            account = self._accounts.get(name)
            if account is None:
                account = Account(name, whose, limits, share)
            elif account.limits != limits:
                account.follow(limits, share, now_s)
            accounts[name] = account
        if limits.requests_at_once > 0 and name not in places:
            known = self._places.get(name) or self._ending.get(name)
            if known is None:
                known = Places(f"{name}#", whose, limits.requests_at_once)
            known.limit = limits.requests_at_once
            places[name] = known


def _limits(key: KeyRoute) -> QuotaRoute:
    own = key.limits
    return QuotaRoute("", own.requests_per_s, own.burst, own.tokens_per_min, own.requests_at_once)


def _limits_any(limits: KeyLimits) -> bool:
    return limits.requests_per_s > 0 or limits.tokens_per_min > 0 or limits.requests_at_once > 0


def _rate(known: Rate | None, per_s: float, burst: float, now_s: float) -> Rate | None:
    if per_s <= 0.0:
        return None
    if known is None:
        return Rate(per_s, burst)
    known.resize(per_s, burst, now_s)
    return known


def _told(name: bytes, rate: Rate | None) -> bytes:
    return b"" if rate is None else _HEADERS % (name, math.floor(rate.burst), name, name)


def _duration(seconds: float) -> bytes:
    """Return `6m0s`, `1.5s` or `20ms`: the form of OpenAI's own headers."""
    if seconds < 1.0:
        return b"%dms" % int(seconds * 1000.0 + 0.5)
    minutes, rest = divmod(seconds, 60.0)
    return (f"{minutes:.0f}m" if minutes else "").encode() + f"{rest:.3g}s".encode()
