"""How a setting is declared: its variable, unit and reason, on the field that holds it."""

from typing import Any

from msgspec import Meta


def setting(variable: str, unit: str, why: str, **bounds: Any) -> Meta:
    """Return what a field is annotated with."""
    return Meta(description=why, extra={"variable": variable, "unit": unit}, **bounds)
