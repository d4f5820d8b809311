"""Sampled requests sent to two endpoints, one after the other, so that both are asked the same in the same minutes."""

import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from stoker.client.data import DataClient
from stoker.core import replay
from stoker.core.replay import Agreement
from stoker.types.errors import StokerError
from stoker.types.samples import SampleRecord

NO_ANSWER: Final = 0  # instead of a status: nobody answered


class Reply(msgspec.Struct, frozen=True):
    """What one of the two did. `took_s` is what the client waited."""

    status: int
    took_s: float
    problem: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """One sample sent to both. `agreement` is None unless both answered 200."""

    id: str
    hidden: int  # pseudonyms in it: the original said something else there
    was: int  # the status of the original
    before: Reply
    after: Reply
    agreement: Agreement | None = None


class Target(msgspec.Struct, frozen=True):
    """Who is asked; `version` as in core/replay.request."""

    endpoint: str
    version: str = ""


def run(
    data: DataClient, records: Iterable[SampleRecord], before: Target, after: Target, *, rate: float
) -> Iterator[Outcome]:
    """Yield what became of each of `records`, which all can be sent, one after the other.

    Args:
        rate: samples a second, at the most; 0: as fast as they are answered.
    """
    due_s = time.monotonic()
    for record in records:
        wait_s = due_s - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        due_s = max(due_s, time.monotonic()) + (1 / rate if rate else 0.0)
        (one, said), (other, said_too) = _ask(data, record, before), _ask(data, record, after)
        agreed = replay.agreement(said, said_too) if one.status == other.status == 200 else None
        yield Outcome(record.id, sum(record.hidden.values()), record.status, one, other, agreed)


def _ask(data: DataClient, record: SampleRecord, target: Target) -> tuple[Reply, Any]:
    path, body = replay.request(record, target.endpoint, target.version)
    began_s = time.monotonic()
    try:
        answer = msgspec.json.decode(data.ask(path, body))
    except StokerError as problem:
        return Reply(problem.status or NO_ANSWER, time.monotonic() - began_s, problem.code), None
    except msgspec.DecodeError:
        return Reply(200, time.monotonic() - began_s, "no JSON"), None
    return Reply(200, time.monotonic() - began_s), answer


class Summary(msgspec.Struct, frozen=True):
    """Many outcomes in numbers. Latencies are [before, after]; shares are of those that both answered."""

    sent: int
    skipped: dict[str, int]
    statuses: dict[str, int]  # "200 → 503": how many
    p50_s: tuple[float, float]
    p99_s: tuple[float, float]
    answered: int
    equal: int
    cosine_min: float | None
    cosine_mean: float | None


def summary(outcomes: list[Outcome], skipped: dict[str, int]) -> Summary:
    """Return the numbers of a whole replay."""
    statuses: dict[str, int] = {}
    for each in outcomes:
        change = f"{each.before.status} → {each.after.status}"
        statuses[change] = statuses.get(change, 0) + 1
    agreed = [each.agreement for each in outcomes if each.agreement is not None]
    cosines = [each.cosine for each in agreed if each.cosine is not None]
    before, after = sorted(each.before.took_s for each in outcomes), sorted(each.after.took_s for each in outcomes)
    return Summary(
        sent=len(outcomes),
        skipped=skipped,
        statuses=dict(sorted(statuses.items())),
        p50_s=(_quantile(before, 0.5), _quantile(after, 0.5)),
        p99_s=(_quantile(before, 0.99), _quantile(after, 0.99)),
        answered=len(agreed),
        equal=sum(each.equal for each in agreed),
        cosine_min=min(cosines, default=None),
        cosine_mean=sum(cosines) / len(cosines) if cosines else None,
    )


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0
