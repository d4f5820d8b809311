"""How people write sizes and times in a manifest (`512Mi`, `30s`), and the numbers they mean."""

import re

# Bounds that no setting reaches, so that whatever is added to or multiplied with one stays a number.
BYTES_MAX = 1 << 60
SECONDS_MAX = 1e10  # 300 years
SIZE_PATTERN = r"^\s*[0-9]{1,18}(\.[0-9]{1,9})?\s*(B|k|M|G|T|Ki|Mi|Gi|Ti)?B?\s*$"
TIME_PATTERN = r"^\s*[0-9]{1,18}(\.[0-9]{1,9})?\s*(ms|s|m|h|d)?\s*$"
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*(B|k|M|G|T|Ki|Mi|Gi|Ti)?B?")
_SIZE_FACTOR = {
    None: 1,
    "B": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_TIME = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*(ms|s|m|h|d)?")
_TIME_FACTOR = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_bytes(text: str | int) -> int:
    """Return the bytes that `512Mi`, `1.5G` or `1024` mean. Raises ValueError with what was expected."""
    if isinstance(text, int):
        return _bytes(text, text)
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size; write a number with B, k, M, G, Ki, Mi or Gi, such as 512Mi")
    return _bytes(int(float(match[1]) * _SIZE_FACTOR[match[2]]), text)


def parse_seconds(text: str | float) -> float:
    """Return the seconds that `250ms`, `30s`, `5m` or `2` mean. Raises ValueError with what was expected."""
    if isinstance(text, (int, float)):
        return _seconds(text, text)
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a time; write a number with ms, s, m, h or d, such as 30s")
    return _seconds(float(match[1]) * _TIME_FACTOR[match[2]], text)


def _bytes(found: int, text: str | int) -> int:
    if found < 0:
        raise ValueError(f"{str(text)[:40]} is negative")
    if found > BYTES_MAX:
        raise ValueError(f"{str(text)[:40]} bytes; sizes are from 0 to {BYTES_MAX >> 40} Ti")
    return found


def _seconds(found: float, text: str | float) -> float:
    if found < 0:
        raise ValueError(f"{str(text)[:40]} is negative")
    if not found <= SECONDS_MAX:
        raise ValueError(f"{str(text)[:40]} seconds; times are from 0 to {SECONDS_MAX / 86_400:,.0f} days")
    return float(found)


def format_bytes(count: int) -> str:
    """Return `count` bytes as a person reads it: `1.5 GiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")
