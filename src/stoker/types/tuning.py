"""Settings that can be changed while the platform runs: by the control API, for gateways and control, at once and for
good.

What is not set here is as the process was started (app/settings.py, by its variable).
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

LogLevel = Literal["debug", "info", "warning", "error"]
Switch = Literal["on", "off"]


class Tuning(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is set; None: as the process was started. Names, units and bounds as in Settings."""

    log_level: LogLevel | None = None
    access_log: Switch | None = None
    trace_ratio: Annotated[float, Meta(ge=0, le=1)] | None = None
    trace_slow_s: Annotated[float, Meta(ge=0, le=86_400)] | None = None
    cache_max_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] | None = None
    samples_max_bytes: Annotated[int, Meta(ge=0, le=1 << 50)] | None = None
    connections_per_address: Annotated[int, Meta(ge=0, le=65535)] | None = None
    otlp_endpoint: (
        Annotated[str, Meta(pattern=r"^(https?://[^\s/@?#]+(/[^\s?#]*)?)?(?!\n)$", max_length=2048)] | None
    ) = None
    otlp_interval_s: Annotated[float, Meta(ge=1, le=3600)] | None = None

    def over(self, usual: "Tuning") -> "Tuning":
        """Return what is in force where a process was started with `usual`."""
        return Tuning(**{name: getattr(usual, name) if value is None else value for name, value in self.items()})

    def changed(self, changes: dict[str, Any]) -> "Tuning":
        """Return it with `changes`, where None undoes. Raises msgspec.ValidationError for what cannot be."""
        return msgspec.convert({**dict(self.items()), **changes}, Tuning)

    def items(self) -> list[tuple[str, Any]]:
        """Return every name with its value."""
        return [(name, getattr(self, name)) for name in NAMES]


NAMES: Final = Tuning.__struct_fields__
WHOLE: Final = "*"  # in Kept.unread: nothing of what is kept can be read


class Kept(msgspec.Struct, frozen=True):
    """What is set. unread: the names that are kept with it and cannot be read, such as another version's, sorted."""

    tuning: Tuning = Tuning()
    unread: tuple[str, ...] = ()


def read(text: str | None, before: Tuning) -> Kept:
    """Return what is kept as `text`, name by name: what cannot be read of it is as it was before.

    Not as the platform was started: a limit that somebody set must not go because another version, or a hand in the
    database, wrote something beside it. before: what was read last; of a control that has just started nothing.
    """
    if text is None:
        return Kept()
    try:
        given = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        return Kept(before, (WHOLE,))
    found: dict[str, Any] = {}
    unread: list[str] = []
    for name, value in given.items():
        try:
            found[name] = getattr(msgspec.convert({name: value}, Tuning), name)
        except msgspec.ValidationError:
            unread.append(name)
            if name in NAMES:
                found[name] = getattr(before, name)
    return Kept(Tuning(**found), tuple(sorted(unread)))


def changed(text: str | None, before: Tuning, changes: dict[str, Any]) -> tuple[str, Kept]:
    """Return what is kept as `text` with `changes`, where None undoes, and what that says.

    What cannot be read stays as it is kept, unless it is changed. Raises msgspec.ValidationError for what cannot be.
    """
    kept = read(text, before)
    tuning = kept.tuning.changed(changes)
    unread = tuple(name for name in kept.unread if name not in changes and name != WHOLE)
    raw = msgspec.json.decode(text, type=dict[str, msgspec.Raw]) if text is not None and unread else {}
    whole = {name: value for name, value in tuning.items() if value is not None} | {name: raw[name] for name in unread}
    return msgspec.json.encode(whole).decode(), Kept(tuning, unread)


class Setting(msgspec.Struct, frozen=True):
    """One of them: its value in force, that which the process was started with, and whether it was set since."""

    name: str
    value: str | int | float
    usual: str | int | float
    is_set: bool


class TuningView(msgspec.Struct, frozen=True):
    """All of them. unread: names that are kept with them and that this version cannot read; `*`, all that is kept."""

    items: tuple[Setting, ...]
    unread: tuple[str, ...] = ()


def view(kept: Kept, usual: Tuning) -> TuningView:
    """Return what is shown of `kept` on a platform that was started with `usual`."""
    started = dict(usual.items())
    return TuningView(
        tuple(
            Setting(name, started[name] if value is None else value, started[name], value is not None)
            for name, value in kept.tuning.items()
        ),
        kept.unread,
    )
