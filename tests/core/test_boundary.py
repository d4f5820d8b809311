"""Who owns what of an endpoint: lines come from its spec, and each stands as what was seen of it says."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import boundary
from stoker.core.boundary import BACKUP_WITHIN_S, HISTORY_WITHIN_S, SCALED_WITHIN_S, Facts
from stoker.core.scale.reading import Reading
from stoker.core.scale.record import Record
from stoker.core.scale.sight import Sight
from stoker.types.boundary import Boundary, Duty
from stoker.types.resources import Endpoint, EndpointSpec, Metadata, Replicas, Samples
from stoker.types.slos import Objective
from stoker.types.statuses import Condition, EndpointStatus

NOW = 1_000_000.0
CONFINED = Condition("Sandboxed", True, "Confined", "landlock abi 7, its own files only", 1.0)
READY = EndpointStatus(
    conditions=(Condition("Ready", True, "ReplicasReady", "2 of 2 replicas are ready", 1.0), CONFINED)
)
PROMISED = Objective(name="answers", sli="availability", target=0.999, runbook="https://runbooks.example.com/chat")
CRASHED = EndpointStatus(conditions=(Condition("Ready", False, "CrashLoop", "it crashed", 1.0),))
SCALED = Record(NOW - 2.0, 1, 1, "", "", (Reading("requests", 1.0, 1.0, "1 at once"),), Sight(at_s=NOW - 2.0))


def endpoint(**spec: Any) -> Endpoint:
    return Endpoint(Metadata("chat", "team", {"owner": "team"}), EndpointSpec(model="chat", **spec))


def facts(**changes: Any) -> Facts:
    """Return what is seen of an endpoint about which all is well."""
    well = Facts(
        at_s=NOW,
        status=READY,
        version="chat@2",
        scaled=SCALED,
        measured=1,
        told=("pager",),
        gateways=(2, 2),
        history_s=NOW - 30.0,
        backup_s=NOW - 86_400.0,
        earlier=1,
        runbooks={PROMISED.runbook: ""},
        golden_rows=20,
    )
    return msgspec.structs.replace(well, **changes)


WHOLE = endpoint(slos=(PROMISED,), replicas=Replicas(0, 4), samples=Samples())


def duty(name: str, found: tuple[Duty, ...]) -> Duty:
    (one,) = [each for each in found if each.name == name]
    return one


def test_where_all_is_well_every_duty_that_can_be_looked_at_is_kept() -> None:
    found = boundary.duties(WHOLE, facts())
    assert {each.name for each in found if each.standing not in ("holds", "said")} == set()
    assert {each.side for each in found if each.standing == "said"} == {"platform", "project"}
    said = boundary.condition(found, NOW)
    assert (said.status, said.reason) == (True, "DutiesKept")
    assert len({each.name for each in found}) == len(found)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("replicas", {"status": CRASHED}, "it crashed"),
        ("gateways", {"gateways": (1, 2)}, "1 of 2"),
        ("scaling", {"scaled": msgspec.structs.replace(SCALED, at_s=NOW - SCALED_WITHIN_S - 1)}, "61 s ago"),
        ("scaling", {"scaled": msgspec.structs.replace(SCALED, signals=(), because="held")}, "none of its signals"),
        ("objectives", {"measured": 0}, "0 of 1"),
        ("alert-route", {"told": ()}, "apply a Notifier"),
        ("history", {"history_s": NOW - HISTORY_WITHIN_S - 1}, "241 s ago"),
        ("backup", {"backup_s": NOW - BACKUP_WITHIN_S - 1}, "8 days ago"),
        ("signature", {"signatures": "required"}, "none of its replicas would start again"),
        ("signature", {"signatures": "warn"}, "stoker models sign chat@2"),
    ],
)
def test_a_duty_of_the_platform_that_is_not_kept_is_the_endpoints_condition(
    name: str, changes: dict[str, Any], words: str
) -> None:
    found = boundary.duties(WHOLE, facts(**changes))
    assert [each.name for each in Boundary("team", "chat", NOW, found).failing("platform")] == [name]
    assert words in duty(name, found).because
    said = boundary.condition(found, NOW)
    assert not said.status
    assert said.reason == "".join(part.capitalize() for part in name.split("-"))
    assert words in said.message


def test_only_other_words_are_news() -> None:
    def said(**changes: Any) -> Condition:
        return boundary.condition(boundary.duties(WHOLE, facts(told=(), **changes)), NOW)

    old = said(history_s=NOW - 300.0)
    assert boundary.is_news(None, old)
    assert not boundary.is_news(old, said(history_s=NOW - 360.0))
    more = said(history_s=NOW - 300.0, backup_s=NOW - 2 * BACKUP_WITHIN_S)
    assert more.reason == old.reason
    assert boundary.is_news(old, more)
    assert boundary.is_news(old, boundary.condition(boundary.duties(WHOLE, facts()), NOW))


@pytest.mark.parametrize("reason", ["ScaledToZero", "Loading"])
def test_an_endpoint_that_sleeps_or_loads_has_the_replicas_it_should(reason: str) -> None:
    status = EndpointStatus(conditions=(Condition("Ready", False, reason, "nobody asks", 1.0),))
    assert duty("replicas", boundary.duties(WHOLE, facts(status=status))).standing == "holds"


def test_what_nobody_has_looked_at_yet_is_unknown_and_no_failure() -> None:
    found = boundary.duties(WHOLE, Facts(NOW, EndpointStatus(), told=("pager",), measured=1))
    unknown = {each.name for each in found if each.standing == "unknown"}
    assert unknown == {"replicas", "scaling", "isolation", "history", "backup", "signature", "runbook"}
    assert boundary.condition(found, NOW).status


@pytest.mark.parametrize(
    ("changes", "standing", "words"),
    [
        ({"signer": "release"}, "holds", "signed by release"),
        ({"has_files": False, "signatures": "required"}, "holds", "an address"),
        ({"signatures": "off"}, "holds", "asks for no signature"),
    ],
)
def test_what_a_signature_is_worth_is_said(changes: dict[str, Any], standing: str, words: str) -> None:
    found = duty("signature", boundary.duties(WHOLE, facts(**changes)))
    assert found.standing == standing
    assert words in found.because


def test_the_projects_duties_that_it_does_not_keep_are_no_condition() -> None:
    bare = Endpoint(Metadata("chat", "team"), EndpointSpec(model="chat"))
    found = boundary.duties(bare, facts(golden_rows=0))
    failing = {each.name for each in Boundary("team", "chat", NOW, found).failing("project")}
    assert failing == {"owner", "promise", "runbook", "quality"}
    assert boundary.condition(found, NOW).status


def test_a_runbook_that_cannot_be_read_is_named_with_why() -> None:
    found = duty("runbook", boundary.duties(WHOLE, facts(runbooks={PROMISED.runbook: "it answers 404"})))
    assert found.standing == "fails"
    assert found.because == "https://runbooks.example.com/chat: it answers 404"


def test_only_what_the_spec_has_is_a_duty() -> None:
    names = {each.name for each in boundary.duties(endpoint(), facts(version=""))}
    assert not {"scaling", "objectives", "way-back", "samples"} & names


@given(
    st.builds(
        Facts,
        at_s=st.just(NOW),
        status=st.sampled_from([READY, EndpointStatus()]),
        version=st.sampled_from(["", "chat@1"]),
        signatures=st.sampled_from(["off", "warn", "required"]),
        signer=st.sampled_from(["", "release"]),
        scaled=st.sampled_from([None, SCALED]),
        measured=st.integers(0, 2),
        told=st.sampled_from([(), ("pager",)]),
        gateways=st.tuples(st.integers(0, 2), st.integers(0, 2)),
        history_s=st.none() | st.floats(0, 2 * NOW),
        runbooks=st.sampled_from([{}, {PROMISED.runbook: "gone"}]),
    )
)
def test_the_condition_is_false_exactly_when_the_platform_fails_a_duty_and_each_says_why(seen: Facts) -> None:
    found = boundary.duties(WHOLE, seen)
    failing = Boundary("team", "chat", NOW, found).failing("platform")
    assert boundary.condition(found, NOW).status == (not failing)
    assert all(each.because for each in found if each.standing in ("fails", "holds", "unknown"))
