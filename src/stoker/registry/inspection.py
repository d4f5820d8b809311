"""What is asked of the inspection process, and what it answers; both are one JSON text."""

from typing import Any

import msgspec

from stoker.types.models import Format, Signature


class InspectionJob(msgspec.Struct, frozen=True):
    """Scan `paths` below `folder`; with a format, read the model at `entry` too. Limits are the process' own."""

    folder: str
    paths: tuple[str, ...]
    format: Format | None
    entry: str
    seconds: float
    memory_bytes: int
    class_name: str = ""  # python: the class that serves, "" to find it
    scan_only: bool = False  # look for what is hostile, do not read the model


class Inspection(msgspec.Struct, frozen=True):
    """What the model says about itself."""

    signature: Signature = Signature()
    tasks: tuple[str, ...] = ()
    metadata: dict[str, str | int | float | bool | list[str] | None] = {}
    options: dict[str, Any] = {}


class InspectionReply(msgspec.Struct, frozen=True):
    """Either what was found, or the error (its code and words)."""

    inspection: Inspection | None = None
    code: str = ""
    message: str = ""
