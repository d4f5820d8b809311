"""An incident as the draft of a post-mortem: what is known is filled in, what only people know is asked (Markdown)."""

from datetime import UTC, datetime
from typing import Final

from stoker.core.diagnose.causes import TITLES, Cause
from stoker.core.diagnose.incident import Incident
from stoker.core.diagnose.scale import percent

SEVERE: Final = 0.7
CLEAR: Final = 0.3
_ASKED: Final = """## What went well

_Fill in._

## What to change

| what | who | until |
|---|---|---|
| | | |
"""


def draft(incident: Incident) -> str:
    """Return the Markdown. Text that came from outside is quoted as code, so that it cannot become markup."""
    until = _clock(incident.closed_at_s) if not incident.is_open else "now: it goes on"
    causes = "\n\n".join(_cause(number, cause) for number, cause in enumerate(incident.causes, 1))
    timeline = "\n".join(f"| {_clock(one.at_s)} | {one.kind} | {_plain(one.text)} |" for one in incident.timeline)
    return f"""# Incident {incident.number}: {incident.project}/{incident.endpoint}

- **From** {_clock(incident.since_s)} **until** {until}
- **Raised by** {_plain(incident.raised_by)}
- **Harm** {_harm(incident)}
- **Resolution** {_plain(incident.resolution) if incident.resolution else "_open_"}

## Causes, likeliest first

{causes or "_Nothing that is known explains it._"}

## Timeline (UTC)

| when | what | |
|---|---|---|
{timeline}

{_ASKED}"""


def _cause(number: int, cause: Cause) -> str:
    where = f", {_plain(cause.where)}" if cause.where else ""
    lines = "\n".join(f"   - {_plain(line)}" for line in cause.evidence)
    return f"{number}. **{TITLES[cause.kind]}** ({percent(cause.confidence)} sure{where})\n{lines}"


def _harm(incident: Incident) -> str:
    kinds = {name: getattr(incident.harm, name) for name in incident.harm.__struct_fields__}
    return ", ".join(f"{name} ({_grade(value)})" for name, value in kinds.items() if value > 0) or "none measured"


def _grade(harm: float) -> str:
    """Return a harm of 0–1, which is no share of anything, in a word."""
    return "severe" if harm >= SEVERE else "clear" if harm >= CLEAR else "slight"


def _clock(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _plain(text: str) -> str:
    """Return `text` as inline code on one line."""
    return f"`{' '.join(text.replace('`', chr(39)).replace('|', '/').split())}`" if text.strip() else ""
