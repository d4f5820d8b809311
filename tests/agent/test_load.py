"""How busy the machine is, from the kernel's own counters."""

import time

import pytest

from stoker.agent import kernel, load


def test_a_share_is_known_after_a_while_and_lies_between_none_and_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "OVER_S", 0.001)
    machine = load.MachineLoad()
    assert machine.cpu_ratio is None, "nothing has gone by yet"
    began_s, (busy_s, whole_s) = time.monotonic(), kernel.cpu_times()
    while kernel.cpu_times()[0] < busy_s + 0.1 and time.monotonic() < began_s + 20:
        pass  # this loop is what makes the machine busy
    assert kernel.cpu_times()[1] > whole_s
    machine.look()
    assert machine.cpu_ratio is not None
    assert 0 < machine.cpu_ratio <= 1
    if kernel.pressed_s("cpu") is not None:
        assert machine.pressure_ratio is not None
        assert 0 <= machine.pressure_ratio <= 1
