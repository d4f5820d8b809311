"""What is promised, as shares of requests under a time: `ttft_p95=500ms`, or an endpoint's own objectives."""

import re
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from stoker.types.errors import InvalidInput
from stoker.types.slos import Objective
from stoker.types.units import parse_seconds

Measure = Literal["latency", "ttft"]
_FORM: Final = re.compile(r"^(latency|ttft)_p(\d{1,2}(?:\.\d+)?)=(.+)$")


class Slo(msgspec.Struct, frozen=True):
    """So large a share of all requests has a `measure` of at most `limit_s`; who gets no answer has not."""

    measure: Measure
    target: float
    limit_s: float

    @property
    def name(self) -> str:
        """As people write it: `ttft_p95`."""
        return f"{self.measure}_p{self.target * 100:g}"


def parse(text: str) -> tuple[Slo, ...]:
    """Return what `ttft_p95=500ms,latency_p99=2s` promises. Raises InvalidInput."""
    return tuple(_one(part.strip()) for part in text.split(","))


def _one(text: str) -> Slo:
    found = _FORM.match(text)
    if found is None or not 0.0 < float(found[2]) < 100.0:
        raise InvalidInput(f"{text!r} is no objective; write latency_pN=TIME or ttft_pN=TIME, such as ttft_p95=500ms")
    try:
        limit_s = parse_seconds(found[3])
    except ValueError as wrong:
        raise InvalidInput(f"{text!r} is no objective: {wrong}") from wrong
    if limit_s <= 0.0:
        raise InvalidInput(f"{text!r} is no objective: no request takes no time")
    return Slo("latency" if found[1] == "latency" else "ttft", round(float(found[2]) / 100.0, 9), limit_s)


def promised(objectives: Iterable[Objective]) -> tuple[Slo, ...]:
    """Return those of an endpoint's objectives that a simulation can judge: times of all callers' requests."""
    return tuple(
        Slo("latency" if each.sli == "latency" else "ttft", each.target, parse_seconds(each.under))
        for each in objectives
        if each.sli in ("latency", "ttft") and each.under is not None and not (each.tenant or each.segment or each.each)
    )
