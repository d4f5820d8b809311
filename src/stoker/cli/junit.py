"""Results of checks as JUnit XML, which every CI reads."""

from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from stoker.types.errors import InvalidInput


def write(path: Path, suite: str, results: Sequence[tuple[str, str]]) -> None:
    """Write (name, why it failed) of each check; an empty why is a success. Raises InvalidInput."""
    failed = sum(1 for _, why in results if why)
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        f'<testsuite name={quoteattr(suite)} tests="{len(results)}" failures="{failed}" errors="0" skipped="0">',
    ]
    for name, why in results:
        case = f"  <testcase classname={quoteattr(suite)} name={quoteattr(_clean(name))}"
        lines.append(
            f"{case}><failure message={quoteattr(_clean(why))}>{escape(_clean(why))}</failure></testcase>"
            if why
            else f"{case}/>"
        )
    try:
        path.write_text("\n".join([*lines, "</testsuite>"]) + "\n", encoding="utf-8")
    except OSError as refused:
        raise InvalidInput(f"{path} cannot be written: {refused.strerror}") from refused


def _clean(text: str) -> str:
    """Return `text` without the control characters that XML cannot have."""
    return "".join(letter for letter in text if letter >= " " or letter in "\t\n")
