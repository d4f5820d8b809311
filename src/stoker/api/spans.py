"""Which time, and counted by what, an operation about usage or costs is asked for."""

import calendar
import re
import time
from collections.abc import Iterable
from typing import Final

from starlette.requests import Request

from stoker.api.queries import SECONDS
from stoker.core.usage import HOUR_S
from stoker.types.errors import InvalidInput
from stoker.types.units import parse_seconds

BY_USUAL: Final = "project,endpoint"
BY_MAX: Final = 8
TAG: Final = r"tag:[^,\x00-\x1f]{1,64}"
# A day or a month, unix seconds, a time ago.
MOMENT: Final = rf"(19[7-9][0-9]|2[0-9]{{3}})-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?|[0-9]{{7,13}}|{SECONDS}"
_DAY: Final = re.compile(r"\d{4}-\d{2}(-\d{2})?")


def several(names: Iterable[str], most: int) -> str:
    """Return the pattern of up to so many of `names` (patterns themselves) with commas between."""
    one = f" *({'|'.join(names)}) *"
    return f"{one}(,{one}){{0,{most - 1}}}"


def span(request: Request) -> tuple[int, int]:
    """Return from when until when, in unix seconds, from a whole hour on; by default this month.

    Raises InvalidInput.
    """
    now_s, asked = time.time(), request.query_params
    from_s = _moment(asked.get("from"), "from", now_s, _month_s(now_s)) // HOUR_S * HOUR_S
    return from_s, _moment(asked.get("to"), "to", now_s, int(now_s) + HOUR_S)


def counted_by(request: Request) -> list[str]:
    """Return the names to count by, which whoever counts knows. Raises InvalidInput for too many, or an empty one."""
    return listed(request.query_params.get("by", BY_USUAL), "by", BY_MAX)


def listed(text: str, field: str, most: int) -> list[str]:
    """Return the names in `text`, as `several` publishes them. Raises InvalidInput for too many, or an empty one."""
    names = [name.strip(" ") for name in text.split(",")]
    if len(names) > most:
        raise InvalidInput(f"{len(names)} names; {most} are the most", field=field)
    if "" in names:
        raise InvalidInput(f"{text[:64]!r} has an empty name; leave {field} out for what is usual", field=field)
    return names


def _moment(text: str | None, name: str, now_s: float, default_s: int) -> int:
    """Return unix seconds of a moment: themselves, a day or month in UTC, or a time ago. Raises InvalidInput."""
    if text is None:
        return default_s
    try:
        if _DAY.fullmatch(text):
            found = time.strptime(text, "%Y-%m-%d" if len(text) > 7 else "%Y-%m")
            return calendar.timegm(found)
        if text.isdecimal() and len(text) > 6:
            return min(int(text), 1 << 40)
        return max(int(now_s - parse_seconds(text)), 0)
    except (ValueError, OverflowError):
        said = f"{text[:40]!r} is no moment; write 2026-11-29, 2026-11, 7d (ago) or unix seconds"
        raise InvalidInput(said, field=name) from None


def _month_s(now_s: float) -> int:
    """Return when the month of `now_s` began, in unix seconds."""
    now = time.gmtime(now_s)
    return calendar.timegm((now.tm_year, now.tm_mon, 1, 0, 0, 0))
