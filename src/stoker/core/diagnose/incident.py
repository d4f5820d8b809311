"""The life of an incident: opened by an alert, a quarantine or a person, explained again as it goes on, closed.

All functions return a new record. There is one open incident of an endpoint: whatever else is raised meanwhile is a
line of its timeline. One that ends and begins again within REOPEN_S is the same one: flapping makes one record, not
forty.
"""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from stoker.core.diagnose.causes import Cause
from stoker.core.diagnose.shift import Harm
from stoker.core.diagnose.verdict import Diagnosis
from stoker.core.diagnose.window import Change
from stoker.types.remedies import Act

TIMELINE_MAX: Final = 200  # lines; the first HEAD_KEPT and the newest are kept
HEAD_KEPT: Final = 40
TEXT_MAX: Final = 400
ACTS_MAX: Final = 16  # that are kept of an incident that opened again and again; far fewer are done in one
REOPEN_S: Final = 600.0
RECOVERED_LOOKS: Final = 5  # in a row that find nothing wrong, before it is closed

MomentKind = Literal["opened", "alert", "change", "cause", "action", "note", "closed"]


class Moment(msgspec.Struct, frozen=True):
    """One line of a timeline. `at_s` is unix time."""

    at_s: float
    kind: MomentKind
    text: str


class Incident(msgspec.Struct, frozen=True):
    """What went wrong at one endpoint. closed_at_s is 0 while it is open; base: the good stretch it is compared with.

    well: looks in a row that found nothing wrong. acts: what it did by itself, oldest first.
    """

    project: str
    endpoint: str
    opened_at_s: float
    since_s: float
    number: int = 0
    closed_at_s: float = 0.0
    raised_by: str = ""
    base_from_s: float = 0.0
    base_until_s: float = 0.0
    harm: Harm = Harm()
    causes: tuple[Cause, ...] = ()
    timeline: tuple[Moment, ...] = ()
    resolution: str = ""
    well: int = 0
    acts: tuple[Act, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return not self.closed_at_s


def opened(project: str, endpoint: str, raised_by: str, now_s: float) -> Incident:
    """Return a new incident that nothing is known of yet."""
    return Incident(
        project,
        endpoint,
        opened_at_s=now_s,
        since_s=now_s,
        raised_by=raised_by[:TEXT_MAX],
        timeline=(Moment(now_s, "opened", raised_by[:TEXT_MAX]),),
    )


def raised_again(incident: Incident, raised_by: str, now_s: float) -> Incident:
    """Return the incident with one more reason; opened again when it was closed."""
    if any(moment.text == raised_by[:TEXT_MAX] for moment in incident.timeline) and incident.is_open:
        return incident
    noted = _noted(incident, [Moment(now_s, "alert" if incident.is_open else "opened", raised_by[:TEXT_MAX])])
    return msgspec.structs.replace(noted, closed_at_s=0.0, resolution="", well=0)


def explained(
    incident: Incident, diagnosis: Diagnosis, changes: Iterable[Change], base_s: tuple[float, float], now_s: float
) -> Incident:
    """Return the incident with what is known of it now. What was likeliest, and is no more, stays in the timeline."""
    first = diagnosis.causes[0] if diagnosis.causes else None
    before = incident.causes[0] if incident.causes else None
    moments = [Moment(one.at_s, "change", one.what[:TEXT_MAX]) for one in changes]
    if first is not None and (before is None or (before.kind, before.where) != (first.kind, first.where)):
        where = f" ({first.where})" if first.where else ""
        moments.append(Moment(now_s, "cause", f"likeliest cause: {first.kind}{where}, {first.confidence:.0%} sure"))
    noted = _noted(incident, moments)
    if not diagnosis.is_wrong:
        return noted
    return msgspec.structs.replace(
        noted,
        since_s=min(diagnosis.since_s, incident.opened_at_s),
        harm=diagnosis.harm,
        causes=diagnosis.causes or incident.causes,
        base_from_s=base_s[0],
        base_until_s=base_s[1],
    )


def noted(incident: Incident, text: str, now_s: float) -> Incident:
    """Return the incident with a line that somebody wrote."""
    return _noted(incident, [Moment(now_s, "note", text[:TEXT_MAX])])


def acted(incident: Incident, act: Act) -> Incident:
    """Return the incident with an act that begins, under the next number."""
    number = incident.acts[-1].number + 1 if incident.acts else 1
    numbered = msgspec.structs.replace(act, number=number)
    text = f"act {number} begins: {act.what}, for {act.because}"
    noted = _noted(incident, [Moment(act.at_s, "action", text[:TEXT_MAX])])
    return msgspec.structs.replace(noted, acts=(*incident.acts, numbered)[-ACTS_MAX:])


def act_ended(incident: Incident, ended: Act) -> Incident:
    """Return the incident with one of its acts over."""
    text = f"act {ended.number} is over after {ended.ended_at_s - ended.at_s:.0f} s ({ended.what}): {ended.outcome}"
    return _with(_noted(incident, [Moment(ended.ended_at_s, "action", text[:TEXT_MAX])]), ended)


def act_judged(incident: Incident, judged: Act, effect: str, now_s: float) -> Incident:
    """Return the incident with what one of its acts changed, in numbers."""
    text = f"act {judged.number} ({judged.what}): {effect}"
    return _with(_noted(incident, [Moment(now_s, "action", text[:TEXT_MAX])]), judged)


def looked(incident: Incident, *, is_wrong: bool, now_s: float) -> Incident:
    """Return the incident after one more look at the endpoint; closed after RECOVERED_LOOKS good ones in a row."""
    if is_wrong:
        return incident if not incident.well else msgspec.structs.replace(incident, well=0)
    well = incident.well + 1
    after = msgspec.structs.replace(incident, well=well)
    return closed(after, "it recovered", now_s) if well >= RECOVERED_LOOKS else after


def closed(incident: Incident, resolution: str, now_s: float) -> Incident:
    """Return the incident as over; one that is over stays as it ended."""
    if not incident.is_open:
        return incident
    noted = _noted(incident, [Moment(now_s, "closed", resolution[:TEXT_MAX])])
    return msgspec.structs.replace(noted, closed_at_s=now_s, resolution=resolution[:TEXT_MAX])


def _with(incident: Incident, changed: Act) -> Incident:
    acts = tuple(changed if act.number == changed.number else act for act in incident.acts)
    return msgspec.structs.replace(incident, acts=acts)


def _noted(incident: Incident, moments: Iterable[Moment]) -> Incident:
    known = {(moment.at_s, moment.text) for moment in incident.timeline}
    new = [moment for moment in moments if (moment.at_s, moment.text) not in known]
    if not new:
        return incident
    lines = sorted((*incident.timeline, *new), key=lambda moment: moment.at_s)
    if len(lines) > TIMELINE_MAX:
        lines = lines[:HEAD_KEPT] + lines[HEAD_KEPT - TIMELINE_MAX :]
    return msgspec.structs.replace(incident, timeline=tuple(lines))
