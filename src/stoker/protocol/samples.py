"""What a manifest may not say of samples, beyond the types of its fields."""

from typing import Final

from stoker.core import sampling
from stoker.core.recognise import RANKS
from stoker.core.recognise.custom import compiled
from stoker.types.resources import Samples
from stoker.types.units import parse_bytes, parse_seconds

MAX_BYTES_MAX: Final = 1 << 20  # it is read in the gateway's process, which must not stand still for it
TTL_S_MAX: Final = 400 * 86_400.0


def sample_problems(spec: Samples | None) -> list[tuple[str, str]]:
    """Return what is wrong, each with its field."""
    if spec is None:
        return []
    found = []
    try:
        if sampling.slow_s(spec.slow) == 0.0 and spec.slow != "p99":
            found.append(("spec.samples.slow", "0 is no time; write p99, never, or a time such as 2s"))
    except ValueError:
        found.append(("spec.samples.slow", f"{spec.slow!r} is none of p99, never, and a time such as 2s"))
    if not 1 <= parse_bytes(spec.max_bytes) <= MAX_BYTES_MAX:
        found.append(("spec.samples.max_bytes", f"{spec.max_bytes!r} is not between 1 byte and 1Mi"))
    if not 0 < parse_seconds(spec.ttl) <= TTL_S_MAX:
        found.append(("spec.samples.ttl", f"{spec.ttl!r} is not between 0 and 400 days"))
    for kind, pattern in spec.patterns.items():
        try:
            compiled(kind, pattern)
        except ValueError as wrong:
            found.append((f"spec.samples.patterns.{kind}", str(wrong)))
        else:
            if kind in RANKS:
                found.append((f"spec.samples.patterns.{kind}", f"{kind} is hidden already; take another name"))
    return found
