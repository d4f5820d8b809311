"""Recorded arrivals from files: Azure's CSV and Mooncake's JSONL, both public formats of language-model traces.

CSV: `TIMESTAMP,ContextTokens,GeneratedTokens`, a timestamp as `2023-11-16 18:17:03.9799600` or in seconds.
JSONL: `{"timestamp": <ms>, "input_length": <tokens>, "output_length": <tokens>, "hash_ids": [<block>, …]}`; a block's
number stands for 512 tokens of the prompt and all before them. More fields are ignored.
"""

import csv
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from stoker.sim.arrivals import Arrivals
from stoker.types.errors import InvalidInput, NotFound

REQUESTS_MAX: Final = 5_000_000
TOKENS_MAX: Final = 100_000_000  # of one request
SPAN_MAX_S: Final = 92 * 86_400.0  # a policy looks every two seconds, whether anything comes or not
DATED_MIN_S: Final = 1e9  # a time from here on (2001) is a date, one below it counts from the beginning
COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")

Row = tuple[float, int, int, tuple[int, ...]]  # seconds, input tokens, output tokens, blocks of the prompt


class _Line(msgspec.Struct):
    timestamp: float  # milliseconds
    input_length: int = 0
    output_length: int = 0
    hash_ids: tuple[int, ...] = ()


def read(file: Path) -> Arrivals:
    """Return the arrivals of a trace, the first at 0. Raises NotFound, or InvalidInput with the line."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as missing:
        raise NotFound(f"there is no trace {file}") from missing
    except (OSError, UnicodeDecodeError) as refused:
        raise InvalidInput(f"{file} cannot be read: {refused}") from refused
    lines = text.splitlines()
    rows = list(_jsonl(file, lines) if text.lstrip().startswith("{") else _csv(file, lines))
    if not rows:
        raise InvalidInput(f"{file} has no request")
    if len(rows) > REQUESTS_MAX:
        raise InvalidInput(f"{file} has {len(rows):,} requests, more than {REQUESTS_MAX:,}; take a part of it")
    rows.sort(key=lambda row: row[0])
    if (span_s := rows[-1][0] - rows[0][0]) > SPAN_MAX_S:
        days = f"{span_s / 86_400:,.0f} days, more than {SPAN_MAX_S / 86_400:.0f}"
        raise InvalidInput(f"{file} spans {days}; take a part of it, or see what unit its timestamps have")
    at_s = np.array([row[0] for row in rows]) - rows[0][0]
    # One mean gap after the last, so that a trace that is joined to itself has no request twice at one moment.
    duration_s = float(at_s[-1]) * (1 + 1 / len(rows)) or 1.0
    read, written = (np.array([row[at] for row in rows], dtype=np.int64) for at in (1, 2))
    blocks = tuple(row[3] for row in rows) if any(row[3] for row in rows) else ()
    began_s = rows[0][0] if rows[0][0] >= DATED_MIN_S else None
    return Arrivals(at_s, duration_s, read, written, blocks, began_s)


def _csv(file: Path, lines: list[str]) -> Iterator[Row]:
    reader = csv.DictReader(lines)
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise InvalidInput(f"{file} has no column {missing[0]}; a trace is CSV with {', '.join(COLUMNS)}, or JSONL")
    for number, row in enumerate(reader, 2):
        try:
            yield _row(_seconds(row["TIMESTAMP"]), int(row["ContextTokens"]), int(row["GeneratedTokens"]), ())
        except (ValueError, TypeError) as wrong:
            raise InvalidInput(f"line {number} of {file} is no request: {wrong}") from wrong


def _jsonl(file: Path, lines: list[str]) -> Iterator[Row]:
    decoder = msgspec.json.Decoder(_Line)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            one = decoder.decode(line)
            yield _row(one.timestamp / 1000, one.input_length, one.output_length, one.hash_ids)
        except (msgspec.MsgspecError, ValueError) as wrong:
            raise InvalidInput(f"line {number} of {file} is no request: {wrong}") from wrong


def _row(at_s: float, read: int, written: int, blocks: tuple[int, ...]) -> Row:
    """Return a request. Raises ValueError for what none can be."""
    if not math.isfinite(at_s):
        raise ValueError(f"{at_s} is no time")
    for count in (read, written):
        if not 0 <= count <= TOKENS_MAX:
            raise ValueError(f"{count} tokens; 0 to {TOKENS_MAX:,} are possible")
    return at_s, read, written, blocks


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        whole, _, part = text.partition(".")
        try:
            moment = datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        except ValueError:
            raise ValueError(f"{text!r} is no time, such as 2023-11-16 18:17:03.9799600 or 12.5") from None
        return moment.timestamp() + (float(f"0.{part}") if part else 0.0)
