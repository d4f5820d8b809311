"""Operations on promises and alerts: how objectives stand, who is told, and who has taken what."""

import secrets
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.responses import Response

from stoker.api.bodies import decoded, nothing, reply
from stoker.api.operations import Call, Operation, Parameter
from stoker.api.queries import ENDPOINT
from stoker.client.views import Alerts, AlertView, BurnView, DriftView, SilenceView, SloView, StepView
from stoker.control.changes import Change
from stoker.core import slo
from stoker.core.alerts import SILENCE_MAX_S, UNTOLD, Alert, Silence
from stoker.core.notices import Notice
from stoker.observe.objectives.judge import Standing
from stoker.store import journal, notifiers
from stoker.store.engine import Connection
from stoker.types.access import EVERYWHERE
from stoker.types.errors import NotFound, NotReachable, Unavailable
from stoker.types.ids import DEFAULT_PROJECT, is_name
from stoker.types.resources import Notifier
from stoker.types.slos import URGENCY
from stoker.types.units import parse_seconds

_ORDER: Final = ("firing", "acknowledged", "silenced", "pending", "resolved")


class SloList(msgspec.Struct, frozen=True):
    """Objectives by endpoint."""

    items: list[SloView]


class NotifierList(msgspec.Struct, frozen=True):
    """Receivers by project and name; secrets are named, not shown."""

    items: list[Notifier]


class SilenceBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A silence to make."""

    match: Annotated[dict[str, str], Meta(min_length=1, max_length=16)]
    for_s: Annotated[float, Meta(gt=0, le=SILENCE_MAX_S)] = 7200.0
    why: Annotated[str, Meta(max_length=500)] = ""
    by: Annotated[str, Meta(max_length=128)] = ""


class TakenBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who takes an alert; empty: whoever's key it is."""

    by: Annotated[str, Meta(max_length=128)] = ""


def slo_view(standing: Standing) -> SloView:
    """Return an objective as the API shows it."""
    objective, decision = standing.objective, standing.decision
    return SloView(
        project=standing.project,
        endpoint=standing.endpoint,
        name=objective.name,
        sli=objective.sli,
        target=objective.target,
        window_s=parse_seconds(objective.window),
        alert=objective.alert,
        state="ok" if decision.severity == "none" else decision.severity,
        because=decision.because,
        attained=decision.attained,
        budget_left=decision.budget_left,
        burn_rate=decision.burn_rate,
        exhausted_in_s=decision.exhausted_in_s,
        burns=tuple(
            BurnView(
                rule=burn.rule.name,
                severity=burn.rule.severity,
                long_s=burn.rule.long_s,
                short_s=burn.rule.short_s,
                threshold=burn.threshold,
                long=burn.long,
                short=burn.short,
                firing=burn.is_firing,
            )
            for burn in decision.burns
        ),
        in_force=tuple(StepView(due.move, due.because, due.since_s) for due in decision.due),
        part=slo.part(objective),
    )


async def _seen(call: Call, standing: Standing) -> SloView:
    """Return an objective as the API shows it; one without data says what has not come."""
    view = slo_view(standing)
    if view.attained is not None or view.state != "ok":
        return view
    because = slo.no_data(standing.objective)
    if standing.objective.sli == "drift":
        with suppress(NotFound):  # deleted meanwhile
            drift = await call.plane.drift.view(standing.project, standing.endpoint)
            because = f"no data: {drift_words(drift)}"
    return msgspec.structs.replace(view, because=because)


def drift_words(drift: DriftView) -> str:
    """Return why there was no verdict on drift yet."""
    if drift.learning_until_s:
        return "its reference is being learned"
    if not drift.is_watched:
        learn = f"`stoker drift learn {drift.endpoint}` makes one of what passes"
        return drift.because or f"what it serves has no reference to compare with; {learn}"
    return drift.because or "no window had enough rows (spec.drift.rows_min)"


async def _slos(call: Call) -> Response:
    which = call.request.query_params.get("endpoint")
    project, _, name = (which or "").rpartition("/")
    wanted = (project or call.grant.only or DEFAULT_PROJECT, name)
    standings = call.plane.watch.standings
    return reply(
        SloList(
            [
                await _seen(call, each)
                for each in standings
                if (not which or (each.project, each.endpoint) == wanted)
                and call.may("endpoints:read", each.project, each.endpoint)
            ]
        )
    )


async def _alerts(call: Call) -> Response:
    memory = call.plane.watch.memory
    ordered = sorted(
        call.plane.watch.seen(),
        key=lambda alert: (_ORDER.index(alert.state), -URGENCY[alert.severity], -alert.since_s),
    )
    return reply(
        Alerts(
            items=tuple(_alert_view(each) for each in ordered if _sees(call, each.labels)),
            silences=tuple(_silence_view(each) for each in memory.silences.values() if _sees(call, each.match)),
            undelivered=Counter(
                each.receiver for each in memory.outbox if call.may("incidents:read", each.receiver.partition("/")[0])
            ),
        )
    )


async def _take(call: Call) -> Response:
    body = await decoded(call.request, TakenBody)
    which = call.request.path_params["alert"]
    alert = call.plane.watch.memory.alerts.get(which)
    if alert is None or not _sees(call, alert.labels):
        raise NotFound(f"no alert {which!r}; `stoker alerts` lists them")
    call.require("incidents:write", _place(alert.labels))
    taken = await call.plane.watch.acknowledge(which, body.by or _caller(call))
    return reply(_alert_view(taken))


async def _silence(call: Call) -> Response:
    body = await decoded(call.request, SilenceBody)
    call.require("incidents:write", _place(body.match))
    until_s = time.time() + body.for_s
    made = Silence(secrets.token_hex(4), body.match, until_s, body.by or _caller(call), body.why)
    await call.plane.watch.silence(made)
    return reply(_silence_view(made), 201)


async def _unsilence(call: Call) -> Response:
    which = call.request.path_params["silence"]
    silence = call.plane.watch.memory.silences.get(which)
    if silence is None or not _sees(call, silence.match):
        raise NotFound(f"no silence {which!r}; `stoker alerts` lists them")
    call.require("incidents:write", _place(silence.match))
    await call.plane.watch.unsilence(which)
    return nothing()


async def _notifiers(call: Call) -> Response:
    found = await call.plane.database.reading(notifiers.everything)
    return reply(NotifierList([each for each in found if call.may("incidents:read", each.metadata.project)]))


async def _delete_notifier(call: Call) -> Response:
    project, name = call.request.path_params["project"], call.request.path_params["name"]

    def change(connection: Connection) -> tuple[None, list[Change]]:
        old = notifiers.find(connection, project, name)
        notifiers.remove(connection, project, name)
        journal.add(connection, journal.Entry(time.time(), "DeleteNotifier", "asked to", project, subject=name))
        return None, [Change("delete", None, old)]

    await call.plane.admission.make(change, call.actor)
    return nothing()


async def _test(call: Call) -> Response:
    project, name = call.request.path_params["project"], call.request.path_params["name"]
    found = await call.plane.database.reading(lambda connection: notifiers.find(connection, project, name))
    if found is None:
        raise NotFound(f"no notifier {name!r} in project {project!r}")
    try:
        await call.plane.post.send(found, _example(project, name, time.time()))
    except NotReachable as silent:  # it, and not control
        raise Unavailable(f"{project}/{name} does not hear: {silent.message}") from silent
    return nothing()


def _example(project: str, name: str, now_s: float) -> Notice:
    """Return what a receiver is told to see that it hears."""
    alert = Alert(
        id="0" * 16,
        labels={"alertname": "StokerTest", "project": project, "endpoint": "none"},
        severity="ticket",
        state="firing",
        summary=f"a test of the notifier {project}/{name}",
        because="`stoker alerts test` was asked for; nothing is wrong",
        runbook="",
        began_s=now_s,
        since_s=now_s,
    )
    return Notice(0, f"{project}/{name}", f"{project}/none", now_s, (alert,))


def _place(labels: Mapping[str, str]) -> str:
    """Return the project that labels are of, by its whole name; EVERYWHERE where they name none, or a pattern."""
    named = labels.get("project", "")
    return named if is_name(named) else EVERYWHERE


def _sees(call: Call, labels: Mapping[str, str]) -> bool:
    return call.may("incidents:read", _place(labels)) or call.may("incidents:write", _place(labels))


def _caller(call: Call) -> str:
    return f"key {call.key.id}" if call.key is not None else ""


def _alert_view(alert: Alert) -> AlertView:
    return AlertView(
        id=alert.id,
        labels=alert.labels,
        severity=alert.severity,
        state=alert.state,
        summary=alert.summary,
        because=alert.because,
        runbook=alert.runbook,
        began_s=alert.began_s,
        since_s=alert.since_s,
        acknowledged_by=alert.acknowledged_by,
        muted_by=alert.muted_by,
        told={receiver: at_s for receiver, at_s in alert.told.items() if at_s != UNTOLD},
    )


def _silence_view(silence: Silence) -> SilenceView:
    return SilenceView(silence.id, silence.match, silence.until_s, silence.by, silence.why)


_NOTIFIER: Final = "/api/v1/projects/{project}/notifiers/{name}"

OPERATIONS: Final = (
    Operation(
        "GET",
        "/api/v1/slos",
        _slos,
        "How every objective stands",
        "endpoints:read",
        where="each",
        answer=SloList,
        query=(Parameter("endpoint", str, "NAME or PROJECT/NAME", pattern=ENDPOINT),),
    ),
    Operation("GET", "/api/v1/alerts", _alerts, "Alerts and silences", "incidents:read", where="each", answer=Alerts),
    Operation(
        "POST",
        "/api/v1/alerts/{alert}/ack",
        _take,
        "Take an alert: it is not told again",
        "incidents:write",
        where="each",
        body=TakenBody,
        answer=AlertView,
    ),
    Operation(
        "POST",
        "/api/v1/silences",
        _silence,
        "Silence alerts with some labels for a while",
        "incidents:write",
        where="each",
        body=SilenceBody,
        answer=SilenceView,
        status=201,
    ),
    Operation(
        "DELETE", "/api/v1/silences/{silence}", _unsilence, "End a silence", "incidents:write", where="each", status=204
    ),
    Operation(
        "GET",
        "/api/v1/notifiers",
        _notifiers,
        "List receivers of alerts",
        "incidents:read",
        where="each",
        answer=NotifierList,
    ),
    Operation("DELETE", _NOTIFIER, _delete_notifier, "Delete a receiver", "incidents:write", status=204),
    Operation(
        "POST",
        _NOTIFIER + "/test",
        _test,
        "Tell a receiver something, to see that it hears",
        "incidents:write",
        status=204,
        audit="begins",
    ),
)
