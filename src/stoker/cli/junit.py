"""Results of checks as JUnit XML, which every CI reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

from stoker.types.errors import InvalidInput

_CONTROL = {code: None for code in range(32) if chr(code) not in "\t\n"}  # what XML 1.0 has no form for


class Case(NamedTuple):
    """One check. failed, skipped: why it was; "" if it was not. kind: of the failure. detail: its numbers, in lines."""

    group: str
    name: str
    failed: str = ""
    skipped: str = ""
    kind: str = ""
    detail: str = ""
    seconds: float = 0.0


def report(suite: str, cases: Sequence[Case], properties: Mapping[str, str] | None = None) -> bytes:
    """Return the report as XML."""
    root = Element(
        "testsuite",
        name=_text(suite),
        tests=str(len(cases)),
        failures=str(sum(bool(each.failed) for each in cases)),
        skipped=str(sum(bool(each.skipped) for each in cases)),
        errors="0",
        time=f"{sum(each.seconds for each in cases):.3f}",
    )
    if properties:
        shown = SubElement(root, "properties")
        for name, value in properties.items():
            SubElement(shown, "property", name=name, value=_text(value))
    for each in cases:
        case = SubElement(
            root, "testcase", classname=_text(each.group), name=_text(each.name), time=f"{each.seconds:.3f}"
        )
        if each.failed:
            failure = SubElement(case, "failure", message=_text(each.failed), type=_text(each.kind or each.name))
            failure.text = _text(each.detail or each.failed)
        elif each.skipped:
            SubElement(case, "skipped", message=_text(each.skipped))
        elif each.detail:
            SubElement(case, "system-out").text = _text(each.detail)
    made: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return made


def write(path: Path, made: bytes) -> None:
    """Write a report. Raises InvalidInput where it cannot be."""
    try:
        path.write_bytes(made)
    except OSError as refused:
        raise InvalidInput(f"{path} cannot be written: {refused.strerror}") from refused


def _text(value: str) -> str:
    return value.translate(_CONTROL)
