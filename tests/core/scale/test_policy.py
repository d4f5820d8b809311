"""What a manifest says about scaling, as numbers."""

from stoker.core.scale.policy import can_sleep, is_scaled, policy_of
from stoker.types.resources import Backend, EndpointSpec, Limits, Replicas
from stoker.types.scaling import Scaling, Schedule


def test_an_endpoint_scales_where_it_may_have_more_than_it_must() -> None:
    assert not is_scaled(EndpointSpec(model="m"))
    assert is_scaled(EndpointSpec(model="m", replicas=Replicas(min=1, max=8)))
    assert not is_scaled(EndpointSpec(model="m", replicas=Replicas(min=0, max=0)))
    assert not is_scaled(EndpointSpec(backends=(Backend("b"),), replicas=Replicas(min=1, max=8)))
    assert is_scaled(EndpointSpec(model="m", scaling=Scaling(schedules=(Schedule("08:00", "18:00", max=4),))))
    assert can_sleep(EndpointSpec(model="m", replicas=Replicas(min=0, max=1)))
    assert not can_sleep(EndpointSpec(model="m", replicas=Replicas(min=0, max=0)))


def test_one_may_sleep_where_its_minimum_is_none_always_or_at_times() -> None:
    night = Schedule("22:00", "06:00", min=0)
    assert can_sleep(EndpointSpec(model="m", replicas=Replicas(min=1, max=2), scaling=Scaling(schedules=(night,))))
    day = Schedule("08:00", "18:00", min=2)
    assert not can_sleep(EndpointSpec(model="m", replicas=Replicas(min=1, max=2), scaling=Scaling(schedules=(day,))))


def test_times_are_seconds_and_the_queue_is_that_of_all_gateways() -> None:
    scaling = Scaling(drain="2s", down_window="5m", idle_timeout="1h", utilization=0.5)
    spec = EndpointSpec(model="m", replicas=Replicas(min=1, max=8), limits=Limits(queue_max=100), scaling=scaling)
    policy = policy_of(spec, gateways=4)
    assert (policy.drain_s, policy.down_window_s, policy.idle_timeout_s) == (2.0, 300.0, 3600.0)
    assert (policy.utilization, policy.queue_max) == (0.5, 400)


def test_what_finds_no_place_at_the_maximum_is_said_in_words() -> None:
    plain = policy_of(EndpointSpec(model="m"), 1).overflow
    assert plain == (
        "what finds no place waits, 512 requests in a gateway at the most, then 429, the sheddable ones first"
    )
    chained = policy_of(EndpointSpec(model="m", fallback=("small",)), 1).overflow
    assert chained.endswith("then small answers")
    kept = policy_of(EndpointSpec(model="m", fallback=("small",), fallback_on=("error",)), 1).overflow
    assert kept == plain


def test_a_schedule_has_a_name_and_may_end_on_the_next_day() -> None:
    night = Schedule("22:00", "06:00", days=("fri",), zone="Europe/Berlin", min=2)
    office = Schedule("08:00", "18:30", days=("mon", "tue", "wed", "thu", "fri"), max=3)
    scaling = Scaling(schedules=(night, office))
    first, second = policy_of(EndpointSpec(model="m", scaling=scaling), 1).schedules
    assert (first.name, first.begins_s, first.lasts_s) == ("fri 22:00 to 06:00 Europe/Berlin", 79_200.0, 28_800.0)
    assert (second.name, second.lasts_s, second.days) == ("mon-fri 08:00 to 18:30 UTC", 37_800.0, frozenset(range(5)))
