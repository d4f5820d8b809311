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
    otlp_endpoint: Annotated[str, Meta(pattern=r"^(https?://[^\s/@?#]+(/[^\s?#]*)?)?$", max_length=2048)] | None = None
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


class Setting(msgspec.Struct, frozen=True):
    """One of them: its value in force, that which the process was started with, and whether it was set since."""

    name: str
    value: str | int | float
    usual: str | int | float
    is_set: bool


class TuningView(msgspec.Struct, frozen=True):
    """All of them."""

    items: tuple[Setting, ...]


def view(tuning: Tuning, usual: Tuning) -> TuningView:
    """Return what is shown of `tuning` on a platform that was started with `usual`."""
    started = dict(usual.items())
    return TuningView(
        tuple(
            Setting(name, started[name] if value is None else value, started[name], value is not None)
            for name, value in tuning.items()
        )
    )
