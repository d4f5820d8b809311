"""Causes in the machine underneath, which touch whatever runs on it: a disk without room, a clock that was set.

What fails of them depends on what a model does with files and with the time, so their part of the harm is not to be
measured: they are believed because they began when it did.
"""

from typing import Final

from stoker.core.diagnose.finding import Finding, error_line, harm_share
from stoker.core.diagnose.scale import figure, percent, ramp, seconds
from stoker.core.diagnose.shift import Shift

BY_TIME_ALONE: Final = 0.8  # what the coincidence of a set clock and harm is worth


def disk_full(shift: Shift) -> Finding:
    """Replicas can write to no file, or the disk of their node is full; and were not before."""
    now, before = shift.bad.signals, shift.base.signals
    refused = (now.unwritable_ratio or 0.0) - (before.unwritable_ratio or 0.0)
    short = (now.disk_short_ratio or 0.0) - (before.disk_short_ratio or 0.0)
    lines = []
    if now.unwritable_ratio and refused > 0:
        lines.append(
            f"replicas could write to no file {percent(now.unwritable_ratio)} of the time, "
            f"{percent(before.unwritable_ratio or 0.0)} before"
        )
    if now.disk_short_ratio and short > 0:
        lines.append(
            f"a node's disk had no room {percent(now.disk_short_ratio)} of the time, "
            f"{percent(before.disk_short_ratio or 0.0)} before"
        )
    return Finding(
        "disk_full",
        max(ramp(refused, 0.05, 0.4), 0.8 * ramp(short, 0.05, 0.4)),
        harm_share(shift, latency=0.3, errors=1.0, refusals=0.6, deaths=1.0),
        (*lines, *error_line(shift)),
    )


def clock(shift: Shift) -> Finding:
    """The wall clock of a node or a replica was set, or went away from control's."""
    now, before = shift.bad.signals, shift.base.signals
    usual_s = (before.clock_stepped_s or 0.0) / shift.base.seconds * shift.bad.seconds
    stepped_s = (now.clock_stepped_s or 0.0) - usual_s
    apart_s = (now.clock_apart_s or 0.0) - (before.clock_apart_s or 0.0)
    lines = []
    if stepped_s > 0:
        lines.append(f"a clock was set by {figure(now.clock_stepped_s or 0.0)} s while it was worse")
    if now.clock_apart_s and apart_s > 0:
        lines.append(f"a node's clock is {seconds(now.clock_apart_s)} from control's")
    return Finding(
        "clock",
        BY_TIME_ALONE * max(ramp(stepped_s, 0.5, 5.0), ramp(apart_s, 1.0, 5.0)),
        harm_share(shift, latency=0.2, errors=1.0, refusals=0.6, deaths=0.5),
        (*lines, *error_line(shift)),
    )
