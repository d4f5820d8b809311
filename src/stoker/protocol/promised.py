"""What is wrong with an endpoint's objectives, or with a receiver of alerts, as far as the manifest tells."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from stoker.core import slo
from stoker.core.secrets import FORMS, literal_address
from stoker.types.notifiers import NotifierSpec
from stoker.types.slos import TIMED, Objective, Sli
from stoker.types.units import parse_seconds

WINDOW_S_MIN: Final = 3600.0
WINDOW_S_MAX: Final = 90 * 86_400.0
SLICE_S_MIN: Final = 60.0  # what the history keeps for longer than an hour begins at minutes
SLICE_S_MAX: Final = 3600.0
SLICES_MIN: Final = 20
REPEAT_S_MIN: Final = 60.0
REPEAT_S_MAX: Final = 7 * 86_400.0

# The one field that says what is good, by kind; availability needs none.
_GOOD: Final[dict[Sli, str]] = dict.fromkeys(TIMED, "under") | {"quality": "at_least", "drift": "at_most"}


def objective_problems(
    objectives: Sequence[Objective],
    *,
    is_drift_watched: bool = True,
    is_feedback_kept: bool = True,
    has_model: bool = True,
) -> list[tuple[str, str]]:
    """Return fields and what is wrong with them. Flags: `spec.drift`, `spec.feedback` is not null, `spec.model` is."""
    found: list[tuple[str, str]] = []
    for number, objective in enumerate(objectives):
        where = f"spec.slos[{number}]"
        found.extend((f"{where}.{field}", message) for field, message in _one(objective))
        if objective.sli == "drift" and not is_drift_watched:
            found.append((f"{where}.sli", "nothing watches drift: `spec.drift` is null"))
        if objective.sli == "freshness" and not has_model:
            found.append((f"{where}.sli", "backends serve, each with a model of its own: promise it of those"))
        if objective.sli in ("quality", "business") and not is_feedback_kept:
            found.append((f"{where}.sli", "nothing keeps predictions for their labels: `spec.feedback` is null"))
        if any(other.name == objective.name for other in objectives[:number]):
            found.append((f"{where}.name", f"{objective.name} is there twice"))
    return found


def notifier_problems(spec: NotifierSpec) -> list[tuple[str, str]]:
    """Return fields and what is wrong with them."""
    found = []
    if spec.type == "email":
        if spec.email is None:
            found.append(("spec.email", "missing; an email receiver needs `to`, `sender` and `host`"))
        elif (spec.email.user == "") != (spec.email.password is None):
            found.append(("spec.email.user", "`user` and `password` belong together"))
        elif spec.email.security == "none" and spec.email.user:
            found.append(("spec.email.security", "a password is not sent without TLS; use starttls or tls"))
    elif spec.type == "apprise":
        if spec.url_from is None:
            found.append(("spec.url_from", f"missing; an apprise address holds secrets; name where it is: {FORMS}"))
        if spec.url:
            found.append(("spec.url", "an apprise address holds secrets; name it with `url_from`"))
    elif bool(spec.url) == (spec.url_from is not None):
        found.append(("spec.url", "exactly one of `url` and `url_from` says where to"))
    found += _address(spec.url)
    if spec.sign_with is not None and spec.type != "webhook":
        found.append(("spec.sign_with", f"a {spec.type} receiver checks no signature; leave it out"))
    if not REPEAT_S_MIN <= parse_seconds(spec.repeat) <= REPEAT_S_MAX:
        found.append(("spec.repeat", f"{spec.repeat!r} is not between one minute and 7 days"))
    if len(spec.match) > 16:
        found.append(("spec.match", "more than 16 labels"))
    return found


def _address(url: str) -> list[tuple[str, str]]:
    if not url:
        return []
    if why := literal_address(url):
        return [("spec.url", why)]
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        return [("spec.url", f"{url!r} is no http or https address")]
    return []


def _one(objective: Objective) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    found += _limits(objective) if objective.sli != "business" else _business(objective)
    if objective.under is not None and parse_seconds(objective.under) <= 0:
        found.append(("under", f"{objective.under!r} is no time that anything could be under"))
    if not WINDOW_S_MIN <= parse_seconds(objective.window) <= WINDOW_S_MAX:
        found.append(("window", f"{objective.window!r} is not between one hour and 90 days"))
    if objective.slices is not None:
        length_s = parse_seconds(objective.slices.length)
        if not (SLICE_S_MIN <= length_s <= SLICE_S_MAX and length_s % SLICE_S_MIN == 0):
            found.append(("slices.length", f"{objective.slices.length!r} is not in whole minutes, from 1m to 1h"))
        elif parse_seconds(objective.window) < SLICES_MIN * length_s:
            found.append(("slices.length", f"{objective.window!r} has fewer than {SLICES_MIN} slices of that length"))
        if objective.slices.mean and objective.sli in ("availability", "freshness"):
            found.append(("slices.mean", f"an event of {objective.sli} is good or bad and has no mean"))
        if objective.slices.mean and objective.slices.target is not None:
            found.append(("slices.target", "a slice whose mean is judged is good or bad as a whole; leave it out"))
    found += _parts(objective)
    if objective.runbook and urlsplit(objective.runbook).scheme not in ("http", "https"):
        found.append(("runbook", f"{objective.runbook!r} is no http or https address"))
    return found


def _parts(objective: Objective) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    by_tenant = [sli for sli, (_, of_tenant) in slo.METRICS.items() if of_tenant]
    for field, value, known in (
        ("tenant", objective.tenant, by_tenant),
        ("segment", objective.segment, ["quality", "business"]),
    ):
        is_each = objective.each == field
        if (value or is_each) and objective.sli not in known:
            where = "each" if is_each else field
            found.append((where, f"{objective.sli} is not measured by {field}; known: {', '.join(known)}"))
        if value and is_each:
            found.append((field, f"`each: {field}` is one objective for every {field}; leave it out"))
    return found


def _limits(objective: Objective) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    wanted = _GOOD.get(objective.sli)
    for field in ("under", "at_least", "at_most"):
        value = getattr(objective, field)
        if field == wanted and value is None:
            found.append((field, f"missing; it says which {objective.sli} is good"))
        if field != wanted and value is not None:
            hint = f"; write `{wanted}`" if wanted else ""
            found.append((field, f"says nothing about {objective.sli}{hint}"))
    if objective.metric is not None:
        found.append(("metric", f"says nothing about {objective.sli}; write `sli: business`"))
    return found


def _business(objective: Objective) -> list[tuple[str, str]]:
    found = []
    if objective.metric is None:
        found.append(("metric", "missing; it says which business metric is judged, such as revenue"))
    if objective.under is not None:
        found.append(("under", "says nothing about business; write `at_least` or `at_most`"))
    if (objective.at_least is None) == (objective.at_most is None):
        found.append(("at_least", "exactly one of `at_least` and `at_most` says which amounts are good"))
    if objective.at_least is not None and objective.at_least <= 0:
        found.append(("at_least", "no amount is negative, so each would be good; write what is over 0"))
    return found
