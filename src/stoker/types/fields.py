"""The kinds of field that several manifests share, each with the text that errors and the JSON Schema show."""

from typing import Annotated

from msgspec import Meta

from stoker.types.ids import NAME_PATTERN
from stoker.types.units import BYTES_MAX, SECONDS_MAX, SIZE_PATTERN, TIME_PATTERN

Name = Annotated[str, Meta(pattern=NAME_PATTERN, description="lower-case letters, digits and dashes, 1 to 63 long")]
# `unit` tells the manifest loader how the text is read, so that a wrong one is refused with its line.
Bytes = Annotated[
    str | int,
    Meta(
        description="bytes: a number, or 512Mi, 1.5G",
        extra={"unit": "bytes"},
        extra_json_schema={"pattern": SIZE_PATTERN, "minimum": 0, "maximum": BYTES_MAX},
    ),
]
Seconds = Annotated[
    str | int | float,
    Meta(
        description="seconds: a number, or 250ms, 30s",
        extra={"unit": "seconds"},
        extra_json_schema={"pattern": TIME_PATTERN, "minimum": 0, "maximum": SECONDS_MAX},
    ),
]
