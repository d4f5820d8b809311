"""A replica is refused when it is surely slower or much larger, and not for one slow request."""

import random

from stoker.core.gate import profile
from stoker.core.gate.profile import Measured
from stoker.types.releases import ProfileGate

MIB = 1 << 20


def measured(mean_s: float, count: int = 100, memory: int = 100 * MIB, seed: int = 1) -> Measured:
    chance = random.Random(seed)
    return Measured(tuple(mean_s * (0.8 + 0.4 * chance.random()) for _ in range(count)), memory)


def test_twice_as_slow_is_refused_and_a_little_slower_is_not() -> None:
    gate = ProfileGate()
    refused = profile.judge(gate, measured(0.02), measured(0.01, seed=2))
    assert not refused.is_passed
    assert "its median is" in refused.because
    assert profile.judge(gate, measured(0.012), measured(0.01, seed=2)).is_passed
    assert profile.judge(gate, measured(0.0004), measured(0.0002, seed=2)).is_passed, "the clock's and the socket's"


def test_a_few_slow_requests_do_not_convict() -> None:
    new = measured(0.01)
    assert profile.judge(
        ProfileGate(), Measured((*new.seconds[:97], 1.0, 1.0, 1.0), new.memory_bytes), measured(0.01)
    ).is_passed
    assert profile.judge(ProfileGate(), measured(0.05, 10), measured(0.01, 10)).is_passed, "too few"


def test_a_slow_tail_convicts() -> None:
    new = measured(0.01)
    tail = Measured((*new.seconds[:80], *(0.1,) * 20), new.memory_bytes)
    refused = profile.judge(ProfileGate(), tail, measured(0.01, seed=2))
    assert "its p95 is" in refused.because


def test_memory_is_held_to_its_bound() -> None:
    refused = profile.judge(ProfileGate(), measured(0.01, memory=300 * MIB), measured(0.01))
    assert "its process is 200% larger, at most 100% is allowed" in refused.because
    assert profile.judge(ProfileGate(), measured(0.01, memory=150 * MIB), measured(0.01)).is_passed


def test_alike_replicas_are_hardly_ever_refused() -> None:
    chance = random.Random(3)
    refused = 0
    for _ in range(300):
        one, other = (Measured(tuple(chance.lognormvariate(-5, 1.0) for _ in range(60)), MIB) for _ in range(2))
        refused += not profile.judge(ProfileGate(latency_worse_max=0.0), one, other).is_passed
    assert refused <= 300 * 0.03, refused


def test_without_a_serving_revision_it_is_only_measured() -> None:
    found = profile.judge(ProfileGate(), measured(0.01), None)
    assert found.is_passed
    assert "nothing serves" in found.because
