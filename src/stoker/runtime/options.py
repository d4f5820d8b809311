"""Engine options as a manifest or an endpoint gives them: known names only, typed, with the defaults in one place."""

from typing import Any, TypeVar

import msgspec

from stoker.types.errors import InvalidInput
from stoker.types.replica import ReplicaSpec

_T = TypeVar("_T", bound=msgspec.Struct)


def read(spec: ReplicaSpec, kind: type[_T]) -> _T:
    """Return the options of `spec` over those of its manifest as a `kind` (which forbids unknown fields).

    Raises InvalidInput naming the option and what is known.
    """
    given: dict[str, Any] = {**spec.manifest.options, **spec.options}
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as wrong:
        text, _, where = str(wrong).partition(" - at `$")
        known = ", ".join(kind.__struct_fields__) or "none"
        raise InvalidInput(
            f"engine options of {spec.engine!r}: {text} (options are: {known})",
            field="options" + where.rstrip("`"),
        ) from wrong
