"""Which duties about an endpoint are the platform's and which are its project's, and how each stands. Pure.

Made from the endpoint's own spec, so that nobody has to keep a document true. Every duty of the platform that can be
looked at is: a promise that nobody checks is a hope. What only people can judge is said and not checked.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from stoker.core import conditions
from stoker.core.scale.policy import is_scaled
from stoker.core.scale.record import Record
from stoker.types.boundary import PLATFORM, PROJECT, Duty, Side, Standing
from stoker.types.resources import Endpoint
from stoker.types.signing import SignaturePolicy
from stoker.types.statuses import Condition, EndpointStatus

OWNER, RUNBOOK = "owner", "runbook"  # labels of an endpoint; the policies of the starter set ask for the same
SCALED_WITHIN_S: Final = 60.0  # a decision every two seconds is made while all is well
HISTORY_WITHIN_S: Final = 240.0  # numbers are written each minute
BACKUP_WITHIN_S: Final = 8 * 86_400.0  # a week, and a day for the one who was ill
_NUMBER: Final = re.compile(r"\d+")
# What `Ready=False` says of an endpoint that is as it should be.
_AT_REST: Final = frozenset(("ScaledToZero", "Closed", "Deleting"))


class Facts(msgspec.Struct, frozen=True):
    """What was seen of one endpoint at `at_s`.

    version: that serves, such as "digits@1"; "" while none does. signer: the trusted key that signed it. has_files: it
    is more than an address. scaled: the newest scaling decision. measured: how many of the promised objectives stand
    measured. told: receivers that hear its pages. gateways: that answer, and that there should be. history_s: when the
    history was written last, backup_s when a backup was made; None where nobody can say, or there is none. earlier:
    revisions that can be returned to. runbooks: by address, why it cannot be read, "" where it can; of one that is not
    there nobody has asked yet. golden_rows: examples with known answers.
    """

    at_s: float
    status: EndpointStatus
    version: str = ""
    signatures: SignaturePolicy = "off"
    signer: str = ""
    has_files: bool = True
    scaled: Record | None = None
    measured: int = 0
    told: tuple[str, ...] = ()
    gateways: tuple[int, int] = (0, 0)
    history_s: float | None = None
    backup_s: float | None = None
    earlier: int = 0
    runbooks: Mapping[str, str] = {}
    golden_rows: int = 0


def duties(endpoint: Endpoint, facts: Facts) -> tuple[Duty, ...]:
    """Return all duties about `endpoint`, the platform's first."""
    return (*_platform(endpoint, facts), *_project(endpoint, facts))


def condition(found: tuple[Duty, ...], at_s: float) -> Condition:
    """Return whether the platform keeps all of its duties, as a condition of the endpoint."""
    failing = [duty for duty in found if duty.side == PLATFORM and duty.standing == "fails"]
    if failing:
        reason = "".join(part.capitalize() for part in failing[0].name.split("-"))
        return Condition(conditions.BOUNDARY, False, reason, "; ".join(duty.because for duty in failing), at_s)
    count = sum(duty.side == PLATFORM and duty.standing == "holds" for duty in found)
    return Condition(
        conditions.BOUNDARY, True, "DutiesKept", f"all {count} duties that can be looked at are kept", at_s
    )


def is_news(before: Condition | None, said: Condition) -> bool:
    """Return whether `said` is another claim: the same words with other numbers are none."""
    if before is None or (before.status, before.reason) != (said.status, said.reason):
        return True
    return _NUMBER.sub("", before.message) != _NUMBER.sub("", said.message)


def runbooks(endpoint: Endpoint) -> tuple[str, ...]:
    """Return the addresses where it is written what to do about the endpoint."""
    named = (endpoint.metadata.labels.get(RUNBOOK, ""), *(each.runbook for each in endpoint.spec.slos))
    return tuple(dict.fromkeys(each for each in named if each))


def _platform(endpoint: Endpoint, facts: Facts) -> Iterator[Duty]:
    spec = endpoint.spec
    yield _duty("replicas", PLATFORM, "keeps its replicas running and replaces those that die", *_replicas(facts))
    there, wanted = facts.gateways
    yield _duty(
        "gateways", PLATFORM, "answers every caller, and refuses at once what it could only answer too late",
        "holds" if there == wanted else "fails", f"{there} of {wanted} gateways answer",
    )  # fmt: skip
    if is_scaled(spec):
        text = f"follows the load between {spec.replicas.min} and {spec.replicas.max} replicas"
        yield _duty("scaling", PLATFORM, text, *_scaling(facts))
    if spec.slos:
        standing: Standing = "holds" if facts.measured >= len(spec.slos) else "fails"
        because = f"{facts.measured} of {len(spec.slos)} are measured"
        yield _duty("objectives", PLATFORM, "measures what callers are promised", standing, because)
    yield _duty(
        "alert-route", PLATFORM, "tells somebody when it goes wrong", "holds" if facts.told else "fails",
        f"told: {', '.join(facts.told)}" if facts.told else "no receiver hears its pages; apply a Notifier",
    )  # fmt: skip
    if not spec.backends and spec.sandbox.level != "off":
        text = "keeps replicas, and the code of models in them, from what is not theirs"
        yield _duty("isolation", PLATFORM, text, *_isolation(facts))
    yield _duty("history", PLATFORM, "keeps its numbers for 400 days", *_history(facts))
    yield _duty("backup", PLATFORM, "can be restored when its disk is lost", *_backup(facts))
    yield _duty("signature", PLATFORM, "starts nothing else than what was pushed", *_signature(facts))
    if facts.version:
        text = "keeps revisions to return to, and returns by itself when a new one is worse"
        because = f"{facts.earlier} can be returned to" if facts.earlier else "it has its first: there is none before"
        yield _duty("way-back", PLATFORM, text, "holds", because)
    most = f"at most {spec.limits.queue_max} requests that wait, and no body larger than {spec.limits.max_body}"
    yield _duty("limits", PLATFORM, f"holds {most}, in a gateway")


def _project(endpoint: Endpoint, facts: Facts) -> Iterator[Duty]:
    spec, labels = endpoint.spec, endpoint.metadata.labels
    owner = labels.get(OWNER, "")
    yield _duty(
        "owner", PROJECT, "names who answers for it", "holds" if owner else "fails",
        owner or f"it has no label `{OWNER}`",
    )  # fmt: skip
    yield _duty(
        "promise", PROJECT, "says what callers are promised", "holds" if spec.slos else "fails",
        f"{len(spec.slos)} objectives" if spec.slos else "it has no `slos`; what is shown promises nothing",
    )  # fmt: skip
    yield _duty("runbook", PROJECT, "writes down what to do when it goes wrong", *_runbook(endpoint, facts))
    checks = [f"{facts.golden_rows} examples with known answers"] if facts.golden_rows else []
    checks += ["feedback"] if spec.feedback is not None else []
    yield _duty(
        "quality", PROJECT, "knows whether its answers are right", "holds" if checks else "fails",
        " and ".join(checks) if checks else "no golden set and no `feedback`: nothing would tell that it is wrong",
    )  # fmt: skip
    yield _duty("model", PROJECT, "has the right to use the model and the data that it was made from")
    yield _duty("callers", PROJECT, "gives keys to who may call, with limits, and takes them back")
    if not spec.backends and spec.sandbox.level == "off":
        yield _duty("sandbox", PROJECT, "answers for what the model's code does: `spec.sandbox.level` is off")
    if spec.samples is not None:
        yield _duty("samples", PROJECT, "may keep what callers send: samples are kept of it")


def _replicas(facts: Facts) -> tuple[Standing, str]:
    ready = conditions.find(facts.status.conditions, conditions.READY)
    if ready is None:
        return "unknown", "nothing is known of it yet"
    return "holds" if ready.status or ready.reason in _AT_REST or ready.reason == "Loading" else "fails", ready.message


def _isolation(facts: Facts) -> tuple[Standing, str]:
    found = conditions.find(facts.status.conditions, conditions.SANDBOXED)
    if found is None:
        return "unknown", "no replica has told yet what it is kept from"
    if found.reason == "Off":
        return "unknown", "replicas of before `spec.sandbox` was set still run"
    return "holds" if found.status else "fails", found.message


def _scaling(facts: Facts) -> tuple[Standing, str]:
    found = facts.scaled
    if found is None:
        return "unknown", "nothing was decided yet"
    age_s = facts.at_s - found.at_s
    if age_s > SCALED_WITHIN_S:
        return "fails", f"the last decision was made {age_s:.0f} s ago"
    if not found.signals:
        return "fails", f"none of its signals is measured: {found.because}"
    return "holds", f"{', '.join(each.signal for each in found.signals)} measured {age_s:.0f} s ago"


def _history(facts: Facts) -> tuple[Standing, str]:
    if facts.history_s is None:
        return "unknown", "nothing was written yet"
    age_s = facts.at_s - facts.history_s
    return "holds" if age_s <= HISTORY_WITHIN_S else "fails", f"written {max(age_s, 0.0):.0f} s ago"


def _backup(facts: Facts) -> tuple[Standing, str]:
    if facts.backup_s is None:
        return "unknown", "no backup was made from here yet; `stoker backup FILE`"
    days = max(facts.at_s - facts.backup_s, 0.0) / 86_400.0
    said = f"the last backup was made {days:.0f} days ago" if days >= 2 else "the last backup was made within two days"
    return "holds" if facts.at_s - facts.backup_s <= BACKUP_WITHIN_S else "fails", said


def _signature(facts: Facts) -> tuple[Standing, str]:
    if not facts.version:
        return "unknown", "no version serves yet"
    if not facts.has_files:
        return "holds", f"{facts.version} is an address: what answers there is not stored here"
    if facts.signer:
        return "holds", f"{facts.version} is signed by {facts.signer}; signature and files are checked at every start"
    match facts.signatures:
        case "required":
            return (
                "fails",
                f"{facts.version} has no signature of a trusted key, so none of its replicas would start again",
            )
        case "warn":
            return "fails", f"{facts.version} has no signature of a trusted key; `stoker models sign {facts.version}`"
        case "off":
            return (
                "holds",
                f"the files of {facts.version} are checked at every start; the project asks for no signature",
            )


def _runbook(endpoint: Endpoint, facts: Facts) -> tuple[Standing, str]:
    addresses = runbooks(endpoint)
    if not addresses:
        return "fails", f"it has no label `{RUNBOOK}`, and no objective has a runbook"
    broken = [f"{address}: {facts.runbooks[address]}" for address in addresses if facts.runbooks.get(address)]
    if broken:
        return "fails", "; ".join(broken)
    if any(address not in facts.runbooks for address in addresses):
        return "unknown", f"{addresses[0]} was not asked for yet"
    return "holds", f"{', '.join(addresses)} can be read"


def _duty(name: str, side: Side, text: str, standing: Standing = "said", because: str = "") -> Duty:
    return Duty(name, side, text, standing, because)
