"""Time in which at least one piece of work ran, counted once however many there were."""

import pytest

from stoker.runtime import busy
from stoker.runtime.busy import BusyClock


def test_work_that_overlaps_is_counted_once_and_what_runs_now_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([10.0, 12.0, 15.0, 20.0, 21.0])
    monkeypatch.setattr(busy, "monotonic", lambda: next(moments))
    clock = BusyClock()
    clock.begin()  # at 10
    clock.begin()
    assert clock.seconds == 2.0  # at 12
    clock.end()
    clock.end()  # at 15
    assert clock.seconds == 5.0
    clock.add(0.5)
    clock.begin()  # at 20
    assert clock.seconds == 6.5  # at 21
