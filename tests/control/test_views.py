"""What screens say of an endpoint while its replicas start."""

import asyncio
import time

import click
import msgspec
import pytest

from stoker.cli.tables import state_words
from stoker.control.observe import Observer
from stoker.control.views import starting
from stoker.core.conditions import PROGRESSING, READY, RELEASED
from stoker.core.snapshot import EndpointState
from stoker.types.ids import EndpointName, ProjectName
from stoker.types.loading import Progress, Usual
from stoker.types.process import LoadProgress, ProcessStatus
from stoker.types.routes import EndpointRoute, RouteTable
from stoker.types.statuses import Condition, EndpointStatus, EndpointView
from tests.control.test_around import NODE, Nodes
from tests.store.rows import endpoint

USUAL: Usual = (("process", 10.0), ("weights", 80.0), ("warm-up", 10.0))
LABELS = {"project": "default", "endpoint": "a"}
LOADING = ProcessStatus(
    "a-1",
    "replica",
    "loading",
    phases={"process": 20.0},  # longer than usual
    progress=LoadProgress("weights", 0.3),
    labels=LABELS,
)
SPAWNED = ProcessStatus("a-2", "replica", "starting", labels=LABELS)


def said(*processes: ProcessStatus, usual: Usual = USUAL, ready: int = 0) -> Progress:
    """Return what is said of processes that were spawned a minute ago."""
    project, name = ProjectName("default"), EndpointName("a")
    driver, at_s = Nodes(), time.time() - 60.0
    driver.statuses = (
        msgspec.structs.replace(
            NODE, processes=tuple(msgspec.structs.replace(each, started_at_s=at_s) for each in processes)
        ),
    )
    observer = Observer(driver)
    asyncio.run(observer.look())
    state = EndpointState(project, name, 1, endpoint(), 1.0, status=EndpointStatus(replicas_ready=ready))
    table = RouteTable(1, (EndpointRoute(project, name, "predict", 0.0, (), start=usual),), ())
    return starting(state, observer, table)


def test_the_replica_that_will_be_ready_first_says_how_far_the_endpoint_is() -> None:
    found = said(SPAWNED, LOADING)
    assert found.stage == "weights"
    assert found.left_s == pytest.approx(50.0, abs=5.0)  # 40 s of the weights were before this
    assert found.fraction == pytest.approx(0.5, abs=0.05)
    assert found.words.startswith("loading ")


def test_a_first_start_is_as_far_as_the_replica_says_of_its_stage() -> None:
    assert said(LOADING, usual=()) == Progress("weights", 0.3, None, "loading for the first time")


def test_an_endpoint_that_serves_or_sleeps_says_nothing_of_starts() -> None:
    assert said(LOADING, ready=1) == said() == Progress()


PENDING = "default.a-3 waits for its gates: golden: runs"


@pytest.mark.parametrize(
    ("released", "progressing", "shown"),
    [
        (Condition(RELEASED, False, "Pending", PENDING, 0.0), "Gating", "Ready  #3 waits for its gates (golden: runs)"),
        (Condition(RELEASED, False, "GoldenFailed", "no", 0.0), "Complete", "Ready  #3 was refused"),
        (Condition(RELEASED, True, "Released", "3 gates", 0.0), "RolledBack", "Ready  #3 was rolled back"),
        (Condition(RELEASED, True, "Released", "3 gates", 0.0), "Refused", "Ready  #3 was refused"),
        (Condition(RELEASED, True, "Released", "3 gates", 0.0), "RollingOut", "Ready"),
        (Condition(RELEASED, True, "Released", "3 gates", 0.0), "NoCapacity", "Ready  #3 has no room: x"),
        (Condition(RELEASED, True, "Released", "3 gates", 0.0), "CrashLoop", "Ready  #3 crashes: x"),
        (None, "Complete", "Ready"),
    ],
)
def test_lists_say_what_keeps_a_newer_revision_from_traffic(
    released: Condition | None, progressing: str, shown: str
) -> None:
    both = (
        Condition(READY, True, "ReplicasReady", "1 of 1", 0.0),
        Condition(PROGRESSING, False, progressing, "x", 0.0),
    )
    conditions = both if released is None else (*both, released)
    status = EndpointStatus(conditions=conditions, revision="default.a-3", serving="default.a-2")
    view = EndpointView(EndpointName("a"), ProjectName("default"), 1, endpoint(), status)
    assert click.unstyle(state_words(view)) == shown
    served = msgspec.structs.replace(status, serving="default.a-3")
    assert click.unstyle(state_words(msgspec.structs.replace(view, status=served))) == "Ready"


@pytest.mark.parametrize(
    ("reason", "words", "shown"),
    [
        ("Loading", "loading 62 %, about 9 s", "loading 62 %, about 9 s"),
        ("ScaledToZero", "", "ScaledToZero: why not"),
        ("CrashLoop", "loading 10 %, about 9 s", "CrashLoop: why not"),
    ],
)
def test_lists_say_how_far_it_is_but_for_what_fails(reason: str, words: str, shown: str) -> None:
    status = EndpointStatus(conditions=(Condition(READY, False, reason, "why not", 0.0),))
    view = EndpointView(EndpointName("a"), ProjectName("default"), 1, endpoint(), status, Progress(words=words))
    assert click.unstyle(state_words(view)) == shown
