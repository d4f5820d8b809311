"""Which tenants or segments an objective judges that judges each by itself: the busiest, and those it judged before.

A budget reaches back over days: whoever is judged stays so, as long as he is heard of, until somebody else is
SWAP_RATIO times as busy. Objectives that flicker show nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from stoker.core.slo import label
from stoker.types.slos import Objective

SWAP_RATIO: Final = 2.0


def choose(before: Iterable[str], traffic: Mapping[str, float], most: int) -> tuple[str, ...]:
    """Return at most `most` names in order, given what each asked for lately; who asked for nothing is none of them."""
    held = {name: traffic[name] for name in before if traffic.get(name, 0.0) > 0}
    by_traffic = sorted(held, key=lambda name: (-held[name], name))
    chosen = dict.fromkeys(by_traffic[:most])
    rising = sorted(
        (name for name in traffic if traffic[name] > 0 and name not in chosen), key=lambda n: (-traffic[n], n)
    )
    for name in rising:
        if len(chosen) < most:
            chosen[name] = None
            continue
        least = min(chosen, key=lambda each: (traffic[each], each))
        if traffic[name] <= SWAP_RATIO * traffic[least]:
            break
        del chosen[least]
        chosen[name] = None
    return tuple(sorted(chosen))


def judged(
    whose: tuple[str, str], promised: Iterable[Objective], parts: Mapping[str, tuple[str, ...]]
) -> list[Objective]:
    """Return the objectives that are judged: one that judges each is one for each of its `parts`.

    Args:
        whose: project and endpoint.
        parts: tenants or segments, by `key`.
    """
    found: list[Objective] = []
    for objective in promised:
        if objective.each:
            found += [of_part(objective, part) for part in parts.get(key(*whose, objective), ())]
        else:
            found.append(objective)
    return found


def of_part(objective: Objective, part: str) -> Objective:
    """Return the objective for one tenant or segment."""
    if objective.each == "tenant":
        return msgspec.structs.replace(objective, tenant=part)
    return msgspec.structs.replace(objective, segment=part)


def key(project: str, endpoint: str, objective: Objective) -> str:
    """Return what an objective goes by among all; of one that judges each, what each goes by."""
    return f"{project}/{endpoint}/{label(objective)}"
