"""The backends of an endpoint that stands for others: their rules, compiled once, and which one takes a request."""

import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional

from stoker.core import tiers
from stoker.core.wallet import left_ratio
from stoker.protocol import rules
from stoker.protocol.rules import Rule
from stoker.types.routes import BackendRoute

if TYPE_CHECKING:
    from stoker.gateway.exchange import Exchange

_log = logging.getLogger(__name__)


class Tier:
    """What `spec.backends` says, ready to be asked."""

    __slots__ = ("_has_rules", "_needs", "_rules", "backends")

    def __init__(self, backends: tuple[BackendRoute, ...]) -> None:
        self.backends = backends
        self._rules = [_compiled(backend.when) for backend in backends]
        rules_ = [rule for rule in self._rules if rule is not None]
        self._has_rules = bool(rules_)
        self._needs = frozenset[str]().union(*(rule.needs for rule in rules_))

    @classmethod
    def following(cls, before: Optional["Tier"], backends: tuple[BackendRoute, ...]) -> Optional["Tier"]:
        """Return the tier of a new route table: `before` where nothing changed, None without backends."""
        if before is not None and before.backends == backends:
            return before
        return cls(backends) if backends else None

    def choose(
        self, exchange: "Exchange", is_up: Callable[[str], bool], on_error: Callable[[], None]
    ) -> BackendRoute | None:
        """Return who takes `exchange`. A rule that fails does not hold; `on_error` is told."""
        holds = self._holds(exchange, on_error) if self._has_rules else [False] * len(self.backends)
        if True in holds:
            return self.backends[holds.index(True)]
        up = [not backend.when and is_up(backend.endpoint) for backend in self.backends]
        index = tiers.choose(self.backends, holds, up, random.random())
        return self.backends[index] if index >= 0 else None

    def _holds(self, exchange: "Exchange", on_error: Callable[[], None]) -> list[bool]:
        """Return which rules are true, up to the first that is."""
        context = _context(exchange, self._needs)
        found = [False] * len(self._rules)
        for index, rule in enumerate(self._rules):
            if rule is not None:
                try:
                    found[index] = context.holds(rule)
                except ValueError:
                    on_error()
                if found[index]:
                    break
        return found


def _context(exchange: "Exchange", needs: frozenset[str]) -> rules.Context:
    """Return what rules that need `needs` see of `exchange`."""
    given, key = exchange.request.headers, exchange.key
    assert key is not None
    headers = {name: given.get(name.encode(), b"").decode("latin-1") for name in rules.HEADERS}
    who: dict[str, Any] = {"id": str(key.key), "project": str(key.project), "is_admin": key.is_admin}
    if "budget_left" in needs and exchange.bill is not None:
        who["budget_left"] = left_ratio(exchange.bill.purses, time.time())
    return rules.Context(
        rules.facts(exchange.method, exchange.body, stream=exchange.stream, needs=needs),
        headers if "headers" in needs else {},
        {name: value for name, value in who.items() if name in needs},
        time.gmtime().tm_hour,
    )


def _compiled(text: str) -> Rule | None:
    """Return the rule, None for no text, and for one that control took and this gateway (of another version) cannot."""
    try:
        return Rule(text) if text else None
    except ValueError as wrong:
        _log.warning("a rule cannot be read; it never holds", extra={"rule": text, "reason": str(wrong)})
        return None
