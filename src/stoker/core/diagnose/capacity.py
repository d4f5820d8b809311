"""Causes in what is there to serve: replicas that start too late, batches, processors, memory."""

from stoker.core.diagnose.finding import (
    Finding,
    factor_line,
    harm_share,
    load_share,
    not_of_one,
    phase_line,
    queue_lines,
    rise,
)
from stoker.core.diagnose.locate import worst
from stoker.core.diagnose.scale import doublings, figure, percent, ramp
from stoker.core.diagnose.shift import Shift
from stoker.core.diagnose.window import QUEUES, WORK


def scale_lag(shift: Shift) -> Finding:
    """More replicas are wanted than are ready, while the load grew."""
    ready, wanted = shift.bad.signals.replicas_ready, shift.bad.signals.replicas_wanted
    if ready is None or not wanted:
        return Finding("scale_lag")
    usual = _missing(shift.base.signals.replicas_ready, shift.base.signals.replicas_wanted)
    missing = _missing(ready, wanted) - usual
    return Finding(
        "scale_lag",
        ramp(missing, 0.08, 0.3) * ramp(shift.pressure.tries, 0.2, 0.7) * not_of_one(shift),
        load_share(shift, "tries", "replicas"),
        (
            f"{figure(ready)} replicas ready of {figure(wanted)} wanted, over the window",
            *factor_line("arrivals", shift.pressure.tries),
            *queue_lines(shift),
        ),
    )


def _missing(ready: float | None, wanted: float | None) -> float:
    return max(1 - (ready or 0.0) / wanted, 0.0) if wanted else 0.0


def cold_start(shift: Shift) -> Finding:
    """Requests that came while nothing was ready."""
    cold = shift.bad.signals.cold_requests
    if cold is None or shift.bad.requests <= 0:
        return Finding("cold_start")
    share = cold / shift.bad.requests
    usual = (shift.base.signals.cold_requests or 0.0) / max(shift.base.requests, 1.0)
    starts = shift.bad.signals.starts or 0.0
    return Finding(
        "cold_start",
        ramp(share - usual, 0.02, 0.15) * ramp(starts, 0.0, 1.0) * not_of_one(shift),
        # They wait for a process, not in a line: what is queued beyond the load's growth is theirs.
        load_share(shift, "replicas", phases=("queue",)),
        (
            f"{percent(share)} of the requests came while no replica was ready, {percent(usual)} before",
            f"{figure(starts)} replica starts in {shift.bad.seconds / 60:.0f} min",
            *queue_lines(shift),
        ),
        affected_ratio=min(share, 1.0),
    )


def batching(shift: Shift) -> Finding:
    """Fewer requests run together than before, though no fewer wait; or they wait long for each other."""
    now, before = shift.bad.signals.batch_rows, shift.base.signals.batch_rows
    fewer = max(-rise(now, before), 0.0)
    waiting = shift.added("queue", "replica_queue")
    lines = (
        (f"{figure(now)} requests run together in a replica, {figure(before)} before",)
        if now is not None and before is not None
        else ()
    )
    signal = max(
        ramp(fewer, 0.3, 0.9) * ramp(waiting, 0.1, 0.4) * ramp(doublings(shift.bad.rate, shift.base.rate), -0.6, -0.2),
        ramp(shift.added("batch_wait"), 0.2, 0.6),
    )
    return Finding(
        "batching",
        signal,
        load_share(shift, "together", phases=("batch_wait",)),
        (*lines, *phase_line(shift, "batch_wait"), *queue_lines(shift)),
    )


def saturation(shift: Shift) -> Finding:
    """The same work takes longer, while the processors have none to spare."""
    now, before = shift.bad.signals, shift.base.signals
    if now.cpu_pressure_ratio is not None:
        full = ramp(now.cpu_pressure_ratio - (before.cpu_pressure_ratio or 0.0), 0.1, 0.35)
        line = f"work waits for a core {percent(now.cpu_pressure_ratio)} of the time, "
        line += f"{percent(before.cpu_pressure_ratio or 0.0)} before"
    elif now.cpu_ratio is not None:
        full = ramp(now.cpu_ratio, 0.85, 0.97) * ramp(now.cpu_ratio - (before.cpu_ratio or 0.0), 0.05, 0.2)
        line = f"processors busy {percent(now.cpu_ratio)}, {percent(before.cpu_ratio or 0.0)} before"
    else:
        return Finding("saturation")
    # Where one revision alone is slow, the cores are not to blame.
    everywhere = 1 - 0.7 * worst(shift.bad, "revision").score
    return Finding(
        "saturation",
        full * ramp(shift.pace, 0.15, 0.5) * everywhere,
        load_share(shift, "pace", phases=WORK),
        (line, *factor_line("time for the same work", shift.pace), *queue_lines(shift)),
    )


def gpu_saturation(shift: Shift) -> Finding:
    """The same work takes longer, while a GPU works all the time that did not before.

    Which replica uses which GPU nobody says: the one that filled up most is taken. One that was always full is not
    judged, for what it does then is the same number.
    """
    before = shift.base.gpus
    full = {
        name: ramp(now, 0.85, 0.97) * ramp(now - before[name], 0.05, 0.2)
        for name, now in shift.bad.gpus.items()
        if name in before
    }
    name = max(full, key=lambda each: full[each], default="")
    if not name or not full[name]:
        return Finding("gpu_saturation")
    line = f"GPU {name} busy {percent(shift.bad.gpus[name])}, {percent(before[name])} before"
    everywhere = 1 - 0.7 * worst(shift.bad, "revision").score
    return Finding(
        "gpu_saturation",
        full[name] * ramp(shift.pace, 0.15, 0.5) * everywhere,
        load_share(shift, "pace", phases=WORK),
        (line, *factor_line("time for the same work", shift.pace), *queue_lines(shift)),
        where=f"gpu {name}",
    )


def memory(shift: Shift) -> Finding:
    """Requests put back for want of cache, or memory at its end."""
    now, before = shift.bad.signals, shift.base.signals
    lines, signal = [], 0.0
    if now.preemptions is not None:
        share = now.preemptions / max(shift.bad.requests, 1.0)
        usual = (before.preemptions or 0.0) / max(shift.base.requests, 1.0)
        signal = ramp(share - usual, 0.02, 0.2)
        if share > usual + 0.01:
            lines.append(f"{figure(share)} preemptions a request, {figure(usual)} before")
    for what, ratio, usual_ratio in (
        ("key-value cache", now.kv_ratio, before.kv_ratio),
        ("memory", now.memory_ratio, before.memory_ratio),
        ("memory of a GPU", now.gpu_memory_ratio, before.gpu_memory_ratio),
    ):
        if ratio is not None:
            full = ramp(ratio, 0.85, 0.97) * ramp(ratio - (usual_ratio or 0.0), 0.05, 0.25)
            signal = max(signal, 0.8 * full)
            if full > 0:
                lines.append(f"{what} {percent(ratio)} used, {percent(usual_ratio or 0.0)} before")
    if now.memory_pressure_ratio is not None:
        starved = now.memory_pressure_ratio - (before.memory_pressure_ratio or 0.0)
        signal = max(signal, ramp(starved, 0.05, 0.25))
        if starved > 0.05:
            lines.append(
                f"work waits for memory {percent(now.memory_pressure_ratio)} of the time, "
                f"{percent(before.memory_pressure_ratio or 0.0)} before"
            )
    if now.memory_deaths:
        usual = (before.memory_deaths or 0.0) / shift.base.seconds * shift.bad.seconds
        signal = max(signal, ramp(now.memory_deaths - 2 * usual, 0.0, 2.0))
        lines.append(f"{now.memory_deaths:.0f} replicas were killed for taking more memory than they may")
    if now.kv_ratio is not None and before.kv_ratio is not None:
        # Who waits for room holds none, so a cache that is too small is never seen full: it is fuller than the requests
        # that came and ran together account for, and they queue.
        pressure = shift.pressure
        asked = sum(max(each, 0.0) for each in (pressure.tries, pressure.repeats, pressure.work, -pressure.together))
        tight = ramp(now.kv_ratio, 0.3, 0.5) * ramp(rise(now.kv_ratio, before.kv_ratio) - asked, 0.7, 1.4)
        if 0.8 * tight > signal:
            signal = 0.8 * tight
            line = (
                f"key-value cache {percent(now.kv_ratio)} used on average, {percent(before.kv_ratio)} before, for the"
            )
            lines.append(f"{line} same requests")
    others = 1 - shift.pressure.share("tries")
    return Finding(
        "memory",
        signal,
        # Who is put back holds no place, so its waiting shows in the queue and not in the pace: a replica that is full
        # of cache makes whatever queue more arrivals or longer ones do not.
        harm_share(shift, latency=shift.added(*WORK) + shift.added(*QUEUES) * others, errors=others, refusals=others),
        (*lines, *queue_lines(shift)),
    )
