"""What each limited key has used in this gateway, within this gateway's share of the key's limit."""

import time
from typing import Final

from stoker.core.quota import Rate
from stoker.core.shares import Holder
from stoker.types.errors import RateLimited
from stoker.types.ids import KeyId
from stoker.types.keys import KeyLimits
from stoker.types.routes import KeyRoute, RouteTable

MINUTE_S: Final = 60.0
GUESTS_MAX: Final = 4096
_HEADERS: Final = b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%b\r\n"
FADE: Final = 0.5  # of what was asked, once a second: the traffic of the last few seconds


class Account:
    """One limited key. Rates are None where it has no limit."""

    __slots__ = ("_share", "_told", "asked", "limits", "requests", "tokens")

    def __init__(self, limits: KeyLimits, share: float) -> None:
        self.limits = limits
        self.requests: Rate | None = None
        self.tokens: Rate | None = None
        self.asked = 0.0  # requests that came lately, let in or not
        self._told: list[tuple[bytes, Rate]] = []  # header lines of each rate, without what changes by the request
        self._share = 0.0
        self.follow(limits, share, 0.0)

    def follow(self, limits: KeyLimits, share: float, now_s: float) -> None:
        """Go on with other limits, or another share of them."""
        if share == self._share and limits is self.limits and (self.requests or self.tokens):
            return
        self.limits, self._share = limits, share
        # A whole request and some tokens always fit into a share's burst; the rate is exact, the burst nearly.
        burst = max((limits.burst or max(limits.requests_per_s, 1.0)) * share, 1.0)
        self.requests = _rate(self.requests, limits.requests_per_s * share, burst, now_s)
        per_s = limits.tokens_per_min * share / MINUTE_S
        self.tokens = _rate(self.tokens, per_s, max(per_s * MINUTE_S, 1.0), now_s)
        named = ((b"requests", self.requests), (b"tokens", self.tokens))
        self._told = [(_HEADERS % (name, rate.burst, name, name), rate) for name, rate in named if rate is not None]

    def take(self, tokens: float, now_s: float) -> None:
        """Take one request and `tokens`. Raises RateLimited, and takes nothing, when they are not there."""
        requests_s = self.requests.wait_s(1.0, now_s) if self.requests is not None else 0.0
        tokens_s = self.tokens.wait_s(tokens, now_s) if self.tokens is not None else 0.0
        if requests_s or tokens_s:
            limits = self.limits
            what = (
                f"{limits.requests_per_s:g} requests a second"
                if requests_s >= tokens_s
                else f"{limits.tokens_per_min:g} tokens a minute (this request may take about {tokens:.0f})"
            )
            raise RateLimited(f"this key may ask for {what}", retry_after_s=max(requests_s, tokens_s))
        if self.requests is not None:
            self.requests.take(1.0, now_s)
        if self.tokens is not None:
            self.tokens.take(tokens, now_s)

    def headers(self, now_s: float) -> bytes:
        """Return the header lines that tell the caller where it stands, as OpenAI's SDKs know them."""
        lines = b""
        for told, rate in self._told:
            lines += told % (rate.left(now_s), _duration(rate.full_in_s(now_s)))
        return lines


class Quotas:
    """The accounts of all limited keys of the route table."""

    def __init__(self, gateways: int) -> None:
        self.holder = Holder(gateways)
        self._accounts: dict[KeyId, Account] = {}
        self._guests: dict[KeyId, Account] = {}  # who comes with a token, as far as their provider limits them
        self._limits_guests = False

    def __bool__(self) -> bool:
        return bool(self._accounts) or self._limits_guests

    def apply(self, table: RouteTable) -> None:
        """Follow the keys of `table`."""
        now_s = time.monotonic()
        limited = {key.key: key.limits for key in table.keys if _is_limited(key.limits)}
        self._limits_guests = any(_is_limited(each.limits) for each in table.providers)
        if not self._limits_guests:
            self._guests = {}
        for name in self._accounts.keys() - limited.keys():
            del self._accounts[name]
        for name, limits in limited.items():
            share = self.holder.share(name, now_s)
            account = self._accounts.get(name)
            if account is None:
                self._accounts[name] = Account(limits, share)
            elif account.limits != limits:
                account.follow(limits, share, now_s)

    def find(self, key: KeyRoute, now_s: float) -> Account | None:
        """Return the account of `key` with this moment's share; None for a key without limits."""
        account = self._accounts.get(key.key)
        if account is None and not key.sha256 and self._limits_guests:
            account = self._guest(key)
        if account is not None:
            account.follow(account.limits, self.holder.share(key.key, now_s), now_s)
        return account

    def _guest(self, key: KeyRoute) -> Account | None:
        """Return the account of somebody who is no row of the table; the one seen first goes over GUESTS_MAX."""
        if not _is_limited(key.limits):
            return None
        account = self._guests.get(key.key)
        if account is None or account.limits != key.limits:
            if len(self._guests) >= GUESTS_MAX:
                del self._guests[next(iter(self._guests))]
            account = self._guests[key.key] = Account(key.limits, self.holder.share(key.key, time.monotonic()))
        return account

    def asked(self) -> dict[str, float]:
        """Return what each key asked for lately, and let it fade. Called once a second."""
        found: dict[str, float] = {}
        for name, account in (*self._accounts.items(), *self._guests.items()):
            if account.asked > 0.01:
                found[name] = account.asked
                account.asked *= FADE
        return found


def _is_limited(limits: KeyLimits) -> bool:
    return bool(limits.requests_per_s or limits.tokens_per_min)


def _rate(known: Rate | None, per_s: float, burst: float, now_s: float) -> Rate | None:
    if per_s <= 0.0:
        return None
    if known is None:
        return Rate(per_s, burst)
    known.resize(per_s, burst, now_s)
    return known


def _duration(seconds: float) -> bytes:
    """Return `6m0s`, `1.5s` or `20ms`: the form of OpenAI's own headers."""
    if seconds < 1.0:
        return b"%dms" % round(seconds * 1000)
    minutes, rest = divmod(seconds, 60.0)
    return (f"{minutes:.0f}m" if minutes else "").encode() + f"{rest:.3g}s".encode()
