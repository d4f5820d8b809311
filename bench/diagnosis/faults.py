"""The things that go wrong in the simulated endpoint, each by turning what it would turn in a real one.

A fault takes the world and a strength in [0, 1]; it may schedule its own course. Which numbers follow is the model's
business. Every fault has a second form where the cause has one (a slow replica or a failing one; a canary or a whole
switch), chosen by the world's own dice.
"""

from collections.abc import Callable
from typing import Final

from bench.diagnosis.parts import Arm, Knobs, Method
from bench.diagnosis.world import World
from stoker.core.diagnose.causes import CauseKind

Fault = Callable[[World, float], None]


def between(low: float, high: float, strength: float) -> float:
    return low + (high - low) * strength


def request_mix(world: World, strength: float) -> None:
    methods = world.knobs.methods
    methods["extract"] = Method(between(0.5, 1.5, strength), methods["extract"].prompt, methods["extract"].output)


def length(world: World, strength: float) -> None:
    if world.random.random() < 0.5:
        world.knobs.prompt_times = between(5.0, 10.0, strength)
    else:
        world.knobs.output_times = between(2.5, 4.0, strength)


def batching(world: World, strength: float) -> None:
    world.knobs.replicas_max = round(between(4, 3, strength))
    world.deploy("r9", Arm(1.0, slots=1), "generation 9: options max_num_seqs changed")


def overload(world: World, strength: float) -> None:
    world.knobs.replicas_max = max(len(world.replicas), world.knobs.replicas_min)
    world.knobs.rate *= between(2.5, 4.5, strength)


def saturation(world: World, strength: float) -> None:
    world.knobs.others_load = between(1.8, 3.5, strength)


def gpu_saturation(world: World, strength: float) -> None:
    world.knobs.gpu_load = between(1.8, 3.5, strength)


def disk_full(world: World, strength: float) -> None:
    """What writes a file for its answer fails; the disk is full, or a quota is, which no free bytes tell of."""
    world.knobs.fails = between(0.12, 0.9, strength)
    world.knobs.is_unwritable = world.random.random() < 0.7
    if not world.knobs.is_unwritable:
        world.knobs.disk_short_ratio = between(0.7, 1.0, strength)


def clock(world: World, strength: float) -> None:
    """What is signed for a time is refused: of the model's answers, some fail."""
    world.knobs.fails = between(0.12, 0.9, strength)
    world.recorder.count("stoker_node_clock_stepped_seconds_total", between(30.0, 7200.0, strength), node="n0")


def memory(world: World, strength: float) -> None:
    world.knobs.kv_tokens = between(1100.0, 700.0, strength)


def network(world: World, strength: float) -> None:
    world.knobs.network_s = between(0.9, 2.5, strength)
    world.knobs.network_jitter_s = between(0.3, 1.2, strength)


def scale_lag(world: World, strength: float) -> None:
    world.knobs.replicas_max = 16
    world.knobs.start_s = between(240.0, 500.0, strength)
    world.knobs.rate *= between(2.5, 4.0, strength)


def cold_start(world: World, strength: float) -> None:
    world.knobs.replicas_min = 0
    world.knobs.idle_s = 20.0
    world.knobs.start_s = between(15.0, 40.0, strength)


def change(world: World, strength: float) -> None:
    dice = world.random.random()
    worse = Arm(1.0, pace=between(2.2, 4.0, strength)) if dice < 0.5 else Arm(1.0, fails=between(0.12, 0.5, strength))
    if world.random.random() < 0.5:
        world.deploy("r2", worse, "version 2 serves: new weights")
        return
    worse.share = between(0.15, 0.4, strength)
    world.arms[world.main].share = 1 - worse.share
    world.arms["r2"] = worse
    world.journal("traffic", f"canary r2 takes {worse.share:.0%}", "r2")
    for _ in range(2):
        world.start("r2", 0.0)


def retry_storm(world: World, strength: float) -> None:
    """A short pause, and clients that give up early and ask again at once: the pause ends, the storm does not."""
    knobs = world.knobs
    knobs.replicas_max = len(world.replicas)
    knobs.timeout_s, knobs.tries_max, knobs.backoff_s = (
        between(4.0, 3.0, strength),
        round(between(8, 15, strength)),
        0.1,
    )
    for each in world.replicas:
        each.ready = False

    def resume() -> None:
        for each in world.replicas:
            each.ready = True
            world.dispatch(each.revision)

    world.after(30.0, resume)


def noisy_tenant(world: World, strength: float) -> None:
    world.knobs.replicas_max = max(len(world.replicas), 4)
    tenant = world.random.choice(["d", "e", "f"])
    world.knobs.tenants[tenant] += between(1.6, 3.5, strength)


def bad_replica(world: World, strength: float) -> None:
    one = world.random.choice([each for each in world.replicas if each.ready])
    dice = world.random.random()
    for each in world.replicas:
        if each is one or (dice < 0.3 and each.node == one.node and each.node == "n0"):
            if world.random.random() < 0.5 or dice < 0.3:
                each.slow = between(6.0, 12.0, strength)
            else:
                each.fails = between(0.3, 0.9, strength)


def dependency(world: World, strength: float) -> None:
    """The server elsewhere that does the work; what a local model calls, nobody tells from its own work."""
    world.recorder.is_remote = True
    if world.random.random() < 0.5:
        world.knobs.dependency_s = between(1.5, 5.0, strength)
    else:
        world.knobs.dependency_fails = between(0.12, 0.5, strength)


def poison(world: World, strength: float) -> None:
    every_s = between(25.0, 10.0, strength)

    def send() -> None:
        one = world.request()
        one.is_poison, one.tenant = True, "e"
        world.submit(one)
        world.after(world.random.expovariate(1 / every_s), send)

    send()


def model_behaviour(world: World, strength: float) -> None:
    """Empty answers, or other ones; that answers repeat themselves nothing of the platform measures yet."""
    if world.random.random() < 0.6:
        world.knobs.empty = between(0.08, 0.4, strength)
    else:
        world.knobs.drift = between(0.45, 1.5, strength)


FAULTS: Final[dict[CauseKind, Fault]] = {
    "request_mix": request_mix,
    "length": length,
    "batching": batching,
    "overload": overload,
    "saturation": saturation,
    "memory": memory,
    "network": network,
    "scale_lag": scale_lag,
    "cold_start": cold_start,
    "change": change,
    "retry_storm": retry_storm,
    "noisy_tenant": noisy_tenant,
    "bad_replica": bad_replica,
    "dependency": dependency,
    "poison": poison,
    "model_behaviour": model_behaviour,
    "gpu_saturation": gpu_saturation,
    "disk_full": disk_full,
    "clock": clock,
}


def knobs_for(kind: CauseKind | None, rate: float) -> Knobs:
    """Return how the endpoint is set before the fault: a quiet one with pauses for cold starts, else a busy one."""
    if kind == "cold_start":
        return Knobs(rate=rate / 4, burst=(25.0, 70.0), replicas_min=1, replicas_max=4)
    return Knobs(rate=rate)
