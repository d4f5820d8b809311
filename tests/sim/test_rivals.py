"""Other platforms' policies answer as their documentation and their own tests say."""

import math

import pytest

from stoker.sim.policy import Highest, Mean
from stoker.sim.rivals import aibrix, hpa, knative, ray_serve
from stoker.sim.rivals.aibrix import Aibrix
from stoker.sim.rivals.hpa import Hpa, Rule
from stoker.sim.rivals.knative import Knative
from stoker.sim.rivals.ray_serve import RayServe

# ---- Knative: cases of pkg/autoscaler/scaling/autoscaler_test.go


def steady(**changed: float) -> Knative:
    return Knative(knative.Settings(panic_threshold=100, max_scale_up_rate=10, max_scale_down_rate=10, **changed))


def test_knative_follows_the_stable_window() -> None:
    kpa = Knative(knative.Settings(max_scale_up_rate=10, panic_threshold=2))
    assert kpa.scale(50, 10, 10, ready=1, now_s=0) == 5
    assert kpa.scale(100, 10, 10, ready=1, now_s=2) == 10


def test_knative_leaves_panic_after_a_slow_increase() -> None:
    kpa = Knative(knative.Settings(max_scale_up_rate=10, panic_threshold=2))
    kpa.scale(1, 1, 1, ready=1, now_s=-100)  # it did not start in panic
    assert kpa.scale(11, 25, 1, ready=10, now_s=0) == 25
    assert kpa.scale(30, 41, 1, ready=40, now_s=30) == 41
    assert kpa.scale(50, 56, 1, ready=55, now_s=62) == 50  # no longer in panic


def test_knative_panics_on_while_the_load_surges() -> None:
    kpa = Knative(knative.Settings(max_scale_up_rate=10, panic_threshold=2))
    kpa.scale(1, 1, 1, ready=1, now_s=-100)
    assert kpa.scale(11, 25, 1, ready=10, now_s=0) == 25
    assert kpa.scale(30, 80, 1, ready=40, now_s=30) == 80
    assert kpa.scale(10, 10, 1, ready=80, now_s=62) == 80  # the window began anew at 30 s
    assert kpa.scale(60, 10, 1, ready=80, now_s=92) == 60


def test_knative_delays_going_down_by_the_highest_of_the_delay() -> None:
    kpa = steady(scale_down_delay_s=300.0)
    assert kpa.scale(40, 40, 10, ready=1, now_s=2) == 4
    assert kpa.scale(0, 0, 10, ready=1, now_s=300) == 4
    assert kpa.scale(0, 0, 10, ready=1, now_s=304) == 0
    assert kpa.scale(40, 40, 10, ready=1, now_s=540) == 4
    assert kpa.scale(30, 30, 10, ready=1, now_s=600) == 4
    assert kpa.scale(0, 0, 10, ready=1, now_s=660) == 4
    assert kpa.scale(0, 0, 10, ready=1, now_s=844) == 3
    assert kpa.scale(0, 0, 10, ready=1, now_s=904) == 0


def test_knative_without_a_delay_goes_down_at_once() -> None:
    kpa = steady()
    assert kpa.scale(40, 40, 10, ready=1, now_s=0) == 4
    assert kpa.scale(20, 20, 10, ready=1, now_s=0.5) == 2


def test_knative_starts_in_panic_when_it_finds_replicas() -> None:
    kpa = Knative()
    assert kpa.scale(0, 0, 10, ready=5, now_s=0) == 5
    assert kpa.scale(0, 0, 10, ready=5, now_s=59) == 5
    assert kpa.scale(0, 0, 10, ready=5, now_s=61) == 2  # at most halved


def test_knatives_limits_of_one_step() -> None:
    # Its comment: MaxScaleUp 1.1, OCC 3, 2 ready, target 1 gives 3, where a floor would be stuck at 2.
    kpa = Knative(knative.Settings(max_scale_up_rate=1.1, panic_threshold=100))
    kpa.scale(1, 1, 1, ready=1, now_s=0)
    assert kpa.scale(3, 3, 1, ready=2, now_s=2) == 3
    assert kpa.scale(0, 0, 1, ready=9, now_s=4) == math.floor(9 / 2)


def test_knatives_defaults() -> None:
    found = knative.Settings()
    assert (found.stable_window_s, found.panic_window_ratio, found.panic_threshold) == (60.0, 0.1, 2.0)
    assert (found.target_utilization, found.max_scale_up_rate, found.max_scale_down_rate) == (0.7, 1000.0, 2.0)
    assert (found.scale_down_delay_s, found.tick_s) == (0.0, 2.0)


# ---- Ray Serve


def held(ray: RayServe, ongoing: float, *, running: int, target: int, seconds: float) -> list[int]:
    return [ray.scale(ongoing, running=running, target=target) for _ in range(round(seconds * 10))]


def test_ray_scales_up_only_after_its_delay_and_by_the_ratio() -> None:
    ray = RayServe()
    assert set(held(ray, 12.0, running=2, target=2, seconds=30)) == {2}
    assert ray.scale(12.0, running=2, target=2) == 6  # 12 ongoing, 2 each


def test_ray_forgets_its_delay_when_the_direction_turns() -> None:
    ray = RayServe()
    held(ray, 12.0, running=2, target=2, seconds=29)
    assert ray.scale(1.0, running=2, target=2) == 2
    assert set(held(ray, 12.0, running=2, target=2, seconds=30)) == {2}


def test_ray_scales_down_after_ten_minutes_and_to_zero_only_from_one() -> None:
    ray = RayServe()
    assert set(held(ray, 0.0, running=3, target=3, seconds=600)) == {3}
    assert ray.scale(0.0, running=3, target=3) == 1
    assert set(held(ray, 0.0, running=1, target=1, seconds=600)) == {1}
    assert ray.scale(0.0, running=1, target=1) == 0


def test_ray_wakes_at_once_from_zero() -> None:
    ray = RayServe()
    assert ray.scale(0.0, running=0, target=0) == 0
    assert ray.scale(1.0, running=0, target=0) == 1
    assert ray.scale(9.0, running=0, target=4) == 4


def test_rays_factors_work_on_the_difference_and_are_never_stuck() -> None:
    ray = RayServe(
        ray_serve.Settings(upscaling_factor=0.5, downscaling_factor=0.1, upscale_delay_s=0, downscale_delay_s=0)
    )
    assert ray.scale(20.0, running=4, target=4) == 7  # half of the way from 4 to 10
    assert ray.scale(6.0, running=4, target=4) == 3  # a tenth of one replica would be none


def test_rays_defaults() -> None:
    found = ray_serve.Settings()
    assert (found.target_ongoing_requests, found.look_back_period_s) == (2.0, 30.0)
    assert (found.upscale_delay_s, found.downscale_delay_s) == (30.0, 600.0)
    assert (found.upscaling_factor, found.downscaling_factor) == (1.0, 1.0)
    assert (found.metrics_interval_s, found.control_loop_s) == (10.0, 0.1)


# ---- Kubernetes: the examples of its page


@pytest.mark.parametrize(("metric", "wanted"), [(200.0, 8), (50.0, 2), (109.0, 4), (91.0, 4), (111.0, 5), (100.0, 4)])
def test_the_hpas_ratio_and_its_tolerance(metric: float, wanted: int) -> None:
    pods = 4
    assert Hpa().recommended(metric * pods, 100.0, pods) == wanted


def test_the_hpa_at_most_doubles_or_adds_four_in_a_period() -> None:
    one = Hpa()
    assert one.scale(100, 1, pods=1, now_s=0) == 5
    assert one.scale(100, 1, pods=5, now_s=15) == 10
    assert one.scale(100, 1, pods=10, now_s=30) == 20
    assert one.scale(100, 1, pods=20, now_s=36) == 20  # in the period that began at 30 ten came: no more
    assert one.scale(100, 1, pods=20, now_s=45) == 40


def test_the_hpa_goes_down_to_the_highest_of_five_minutes() -> None:
    one = Hpa()
    assert one.scale(10, 1, pods=10, now_s=0) == 10
    assert one.scale(6, 1, pods=10, now_s=15) == 10
    assert one.scale(2, 1, pods=10, now_s=299) == 10
    assert one.scale(2, 1, pods=10, now_s=300) == 6
    assert one.scale(2, 1, pods=6, now_s=316) == 2


def test_the_hpas_policies_of_going_down_take_the_one_that_allows_most() -> None:
    one = Hpa(hpa.Settings(down=(Rule("Pods", 4, 60), Rule("Percent", 10, 60)), down_stabilization_s=1))
    assert one.scale(10, 1, pods=80, now_s=0) == 72
    assert one.scale(10, 1, pods=72, now_s=60) == 64  # 7.2 is rounded up to 8
    assert one.scale(10, 1, pods=30, now_s=120) == 26


def test_the_hpas_defaults() -> None:
    found = hpa.Settings()
    assert (found.tolerance, found.sync_period_s, found.down_stabilization_s) == (0.1, 15.0, 300.0)
    assert found.up == (Rule("Percent", 100, 15), Rule("Pods", 4, 15))
    assert found.down == (Rule("Percent", 100, 15),)


# ---- AIBrix: cases of pkg/controller/podautoscaler/algorithm/apa_test.go


@pytest.mark.parametrize(
    ("pods", "used", "rates", "wanted"),
    [
        (2, 45.0, (2.0, 2.0), 3),
        (2, 35.0, (2.0, 2.0), 3),
        (2, 90.0, (2.0, 2.0), 4),
        (2, 90.0, (2.5, 2.0), 5),
        (6, 20.0, (2.0, 2.0), 4),
        (6, 18.0, (2.0, 2.0), 4),
        (6, 10.0, (2.0, 2.0), 3),
        (6, 5.0, (2.0, 2.5), 2),
        (2, 33.0, (2.0, 2.0), 2),
        (2, 27.0, (2.0, 2.0), 2),
    ],
)
def test_aibrix_follows_the_ratio_within_its_tolerance_and_rates(
    pods: int, used: float, rates: tuple[float, float], wanted: int
) -> None:
    up, down = rates
    found = Aibrix(aibrix.Settings(max_scale_up_rate=up, max_scale_down_rate=down))
    assert found.scale(used, 30.0, pods=pods) == wanted


# ---- windows


def test_a_mean_is_of_its_window_and_of_what_there_is_at_the_beginning() -> None:
    mean = Mean(60.0)
    assert mean.read(0.0, 0.0) == 0.0
    assert mean.read(10.0, 50.0) == 5.0
    assert mean.read(60.0, 50.0) == pytest.approx(50 / 60)
    assert mean.read(70.0, 50.0) == 0.0


def test_the_highest_leaves_with_its_window() -> None:
    highest = Highest(10.0)
    assert [highest.record(at, count) for at, count in ((0, 5), (4, 3), (9, 2), (10, 1), (14, 1))] == [5, 5, 5, 3, 2]
