"""How every process logs: one JSON object a line on stderr, safe against what is in it, and never long.

    {"time":"2026-01-31T12:00:00.123Z","level":"warning","process":"gateway-0","logger":"stoker.gateway.links",
     "message":"lost replica","replica":"default.digits-1-k3x9a"}

Fields come from `extra=`: `log.warning("lost replica", extra={"replica": name})`. The standard library refuses those
that a record has already (`name`, `process`, `args`, `module`, … : KeyError), so say `replica`, `worker`, `arguments`.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final

_log: Final = logging.getLogger(__name__)
LINE_MAX: Final = 8 * 1024  # characters; what is longer is cut and says so
FIELDS_MAX: Final = 32
LEVELS: Final = ("debug", "info", "warning", "error")

_TEXT_MAX: Final = LINE_MAX // 2  # of one field
_OWN_FIELDS: Final = ("time", "level", "process", "logger", "message", "error", "cut")
# What logging itself puts on a record; the rest came from `extra`.
_RECORD_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_KEY: Final = re.compile(r"(stk_[A-Za-z0-9]{8}_)[A-Za-z0-9_-]{43}")


class JsonLines(logging.Formatter):
    """Makes one line of a record. Keys of callers are struck out wherever they stand.

    about: what else a line says that is logged now, in this thread or task.
    """

    def __init__(self, process: str, about: Callable[[], Mapping[str, str]] = dict) -> None:
        super().__init__()
        self._process = process
        self._about = about

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its newline. Characters outside ASCII and control characters are escaped."""
        fields: dict[str, object] = {
            "time": _timestamp(record.created),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": _text(_message(record)),
        }
        extra = [(name, value) for name, value in vars(record).items() if name not in _RECORD_FIELDS]
        extra += [(name, value) for name, value in self._about().items() if name not in vars(record)]
        for name, value in extra[:FIELDS_MAX]:
            fields[f"{name}_" if name in _OWN_FIELDS else _text(name)] = _plain(value)
        if record.exc_info:
            fields["error"] = _text(self.formatException(record.exc_info), keep_end=True)
        line = _dump(fields)
        if len(line) > LINE_MAX:
            line = _shorten(fields)
        return line


def configure(process: str, level: str = "info", about: Callable[[], Mapping[str, str]] = dict) -> None:
    """Send all logging of this process to stderr as JSON lines; `level` is one of LEVELS. Replaces what was set.

    about: see JsonLines.
    """
    if level not in LEVELS:
        raise ValueError(f"{level!r} is no log level; use one of {', '.join(LEVELS)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(process, about))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a closed stderr must not hurt the process


def set_level(level: str) -> None:
    """Log from `level` on, one of LEVELS; a change is told."""
    root, number = logging.getLogger(), logging.getLevelName(level.upper())
    if root.level != number:
        root.setLevel(number)
        _log.log(max(number, logging.INFO), "the level of the log was changed", extra={"to": level})


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):  # arguments that do not fit their format must not lose the line
        return f"{record.msg} {record.args!r}"


def _timestamp(unix_s: float) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(unix_s))}.{int(unix_s % 1 * 1000):03d}Z"


def _text(value: str, *, keep_end: bool = False) -> str:
    value = _KEY.sub(r"\1…", value)  # before the cut, which could leave most of a key
    if len(value) <= _TEXT_MAX:
        return value
    return "…" + value[-_TEXT_MAX:] if keep_end else value[:_TEXT_MAX] + "…"


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= 64 else f"an integer of {value.bit_length()} bits"
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)  # JSON has no NaN and no infinity
    return _text(value if isinstance(value, str) else repr(value))


def _dump(fields: dict[str, object]) -> str:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=True)


def _shorten(fields: dict[str, object]) -> str:
    """Return a line within LINE_MAX: texts are cut harder until it fits, the process' own fields last."""
    for limit in (1024, 256, 64):
        cut = {
            name: value[:limit] + "…" if isinstance(value, str) and len(value) > limit else value
            for name, value in fields.items()
        }
        line = _dump({**cut, "cut": True})
        if len(line) <= LINE_MAX:
            return line
    return _dump({**{name: str(fields[name])[:64] for name in _OWN_FIELDS if name in fields}, "cut": True})
