"""What `stoker explain scale` shows, and which moment `--at` means."""

import time

import click
import pytest

from stoker.cli.explain import moment_s, page
from stoker.client.scaling import ScalingView
from stoker.core.scale.decide import decide
from stoker.core.scale.memory import Memory
from stoker.core.scale.policy import Policy
from stoker.core.scale.record import Record, record
from stoker.core.scale.sight import Language, Sight
from stoker.types.errors import InvalidInput
from stoker.types.resources import Replicas

NOW_S = 1_800_000_000.0


def decided() -> Record:
    sight = Sight(
        at_s=NOW_S,
        rate_short=40.0,
        rate_long=40.0,
        service_s=0.4,
        ended=80,
        places=4.0,
        in_flight=8,
        waiting=3,
        ready=2,
        language=Language(kv_free_ratio=0.5),
    )
    return record(decide(sight, Policy(max=4), Memory(desired=2), NOW_S), sight, 2, NOW_S)


def test_the_page_has_the_decision_its_limit_every_signal_the_inputs_and_the_changes() -> None:
    shown = click.unstyle(page(ScalingView("default", "a", Replicas(min=1, max=4), True, (decided(),), decided())))
    for text in (
        "a: 4 replicas at ",
        "requests: 40 requests/s x 0.4 s = 16 at once",
        "at the maximum: wanted",
        "40/s in 6 s, 40/s in 60 s",
        "8 in flight, 3 waiting; 4 places in a replica",
        "50% free",
        "2 → 4",
    ):
        assert text in shown, shown
    assert [line.split()[0] for line in shown.splitlines() if line.startswith(("requests", "kv"))] == ["requests", "kv"]


def test_an_endpoint_that_does_not_scale_or_of_which_nothing_is_known_says_so() -> None:
    fixed = ScalingView("default", "a", Replicas(min=2, max=2), False, ())
    assert page(fixed) == "a does not scale: replicas.min and replicas.max are both 2"
    unknown = ScalingView("default", "a", Replicas(min=2, max=5), True, ())
    assert page(unknown) == "nothing was decided about a (2 to 5 replicas) until then"


def test_a_moment_is_so_long_ago_a_time_of_today_or_a_date() -> None:
    assert moment_s("10m", NOW_S) == NOW_S - 600.0
    local = time.localtime(NOW_S)
    assert moment_s(time.strftime("%H:%M:%S", local), NOW_S) == NOW_S
    later = moment_s(time.strftime("%H:%M", time.localtime(NOW_S + 120.0)), NOW_S)
    assert NOW_S - 86_400.0 < later <= NOW_S  # of yesterday
    assert moment_s(time.strftime("%Y-%m-%dT%H:%M:%S", local), NOW_S) == NOW_S
    with pytest.raises(InvalidInput, match="neither 10m"):
        moment_s("soon", NOW_S)
