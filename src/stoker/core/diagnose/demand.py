"""Causes in what is asked for: how many requests, whose, of what kind, how long, and asked again how often."""

from stoker.core.diagnose import locate
from stoker.core.diagnose.finding import (
    Finding,
    factor_line,
    harm_share,
    load_share,
    not_of_one,
    phase_line,
    queue_lines,
)
from stoker.core.diagnose.scale import doublings, figure, percent, ramp
from stoker.core.diagnose.shift import Shift
from stoker.core.diagnose.window import REST, WORK, Spread


def overload(shift: Shift) -> Finding:
    """More first tries than before, and the queues they make."""
    grown = shift.pressure.tries
    rates = f"{figure(shift.bad.rate)} requests/s against {figure(shift.base.rate)}"
    return Finding(
        "overload",
        ramp(grown, 0.25, 0.8) * not_of_one(shift),
        load_share(shift, "tries"),
        (rates, *queue_lines(shift), *_refusals(shift)) if grown > 0.15 else (),
    )


def retry_storm(shift: Shift) -> Finding:
    """The same first tries, each asked many times over."""
    again = shift.bad.signals.client_retries
    if again is None or shift.bad.requests <= 0:
        return Finding("retry_storm")
    share = again / shift.bad.requests
    usual = (shift.base.signals.client_retries or 0.0) / max(shift.base.requests, 1.0)
    return Finding(
        "retry_storm",
        ramp(share - usual, 0.1, 0.4) * ramp(shift.pressure.own_repeats, 0.05, 0.3),
        load_share(shift, "repeats"),
        (
            f"{percent(share)} of the requests are retries of clients, {percent(usual)} before",
            *factor_line("requests for each first try", shift.pressure.repeats),
            *queue_lines(shift),
            *_refusals(shift),
        ),
    )


def noisy_tenant(shift: Shift) -> Finding:
    """One tenant's demand grew, not everybody's."""
    spots = [
        locate.grown(shift.bad, shift.base, "tenant", lambda part: part.requests),
        locate.grown(shift.bad, shift.base, "tenant", lambda part: part.tokens),
    ]
    spot = max(spots, key=lambda each: each.score)
    load = max(shift.pressure.tries + shift.pressure.repeats, 0.0) + max(shift.pressure.work, 0.0)
    return Finding(
        "noisy_tenant",
        spot.score * ramp(load, 0.2, 0.7) if spot.name != REST else 0.0,  # a crowd is nobody to hold back
        load_share(shift, "tries", "repeats", "work", phases=WORK if shift.pressure.work > 0.3 else ()),
        (*spot.evidence, *factor_line("demand", load), *queue_lines(shift)),
        where=f"tenant {spot.name}" if spot.name else "",
        affected_ratio=1 - spot.share,
    )


def request_mix(shift: Shift) -> Finding:
    """Other shares of methods, or more rows in each request, than before."""
    now, before = shift.bad.methods, shift.base.methods
    total, total_before = (sum(part.requests for part in each.values()) or 1.0 for each in (now, before))
    moved = {
        name: (now[name].requests / total if name in now else 0.0)
        - (before[name].requests / total_before if name in before else 0.0)
        for name in {*now, *before}
    }
    variation = sum(abs(each) for each in moved.values()) / 2
    rows = _longer(shift.bad.rows, shift.base.rows)
    lines = [
        f"{name} is {percent(now[name].requests / total)} of the requests, {percent(now[name].requests / total - by)} "
        "before"
        for name, by in sorted(moved.items(), key=lambda each: -each[1])
        if by > 0.05
    ]
    if rows > 0.3 and shift.bad.rows is not None and shift.base.rows is not None:
        lines.append(f"{figure(shift.bad.rows.mean)} rows a request against {figure(shift.base.rows.mean)}")
    heavier = max(shift.mix, rows)
    return Finding(
        "request_mix",
        max(ramp(variation, 0.08, 0.25), ramp(rows, 0.4, 1.0)) * ramp(heavier, 0.1, 0.4),
        load_share(shift, "work", phases=WORK) * ramp(heavier / max(shift.pressure.work, 0.01), 0.2, 0.6),
        (*lines[:2], *factor_line("work of a request", heavier), *queue_lines(shift)),
    )


def length(shift: Shift) -> Finding:
    """Longer prompts or answers, of the same kinds of requests."""
    prompt = _longer(shift.bad.prompt_tokens, shift.base.prompt_tokens)
    output = _longer(shift.bad.output_tokens, shift.base.output_tokens)
    lines = _length_line("prompt", shift.bad.prompt_tokens, shift.base.prompt_tokens) + _length_line(
        "answer", shift.bad.output_tokens, shift.base.output_tokens
    )
    return Finding(
        "length",
        # Long prompts cost time, or room: then fewer run together.
        ramp(max(prompt, output), 0.4, 1.0)
        * max(ramp(shift.pressure.work, 0.1, 0.5), ramp(shift.pressure.together, 0.15, 0.5)),
        load_share(shift, "work", "together", phases=WORK),
        (*lines, *phase_line(shift, "prefill"), *phase_line(shift, "decode"), *queue_lines(shift)),
    )


def model_behaviour(shift: Shift) -> Finding:
    """Answers that are empty, repeat themselves, or do not look like those of the baseline."""
    now, before = shift.bad.signals, shift.base.signals
    requests, requests_before = max(shift.bad.requests, 1.0), max(shift.base.requests, 1.0)
    lines, signal = [], 0.0
    for what, count, count_before in (
        ("empty", now.empty_outputs, before.empty_outputs),
        ("repeating", now.repeating_outputs, before.repeating_outputs),
    ):
        if count is not None:
            share, usual = count / requests, (count_before or 0.0) / requests_before
            signal = max(signal, ramp(share - usual, 0.02, 0.10))
            if share - usual > 0.02:
                lines.append(f"{percent(share)} of the answers are {what}, {percent(usual)} before")
    if now.drift is not None and now.drift >= 0.25:
        signal = max(signal, 0.8 * ramp(now.drift - (before.drift or 0.0), 0.1, 0.4))
        lines.append(f"drift score {figure(now.drift)}, {figure(before.drift or 0.0)} before (0.25 is a shift)")
    grown = ramp(_longer(shift.bad.output_tokens, shift.base.output_tokens), 0.1, 0.4)
    share = load_share(shift, "work", phases=WORK) * grown
    return Finding("model_behaviour", signal, max(share, harm_share(shift, quality=1.0) + share / 2), tuple(lines))


def _longer(now: Spread | None, before: Spread | None) -> float:
    """Return the doublings of a mean size."""
    if now is None or before is None or before.mean <= 0 or now.mean <= 0:
        return 0.0
    return doublings(now.mean, before.mean)


def _length_line(what: str, now: Spread | None, before: Spread | None) -> tuple[str, ...]:
    if now is None or before is None or _longer(now, before) < 0.3:
        return ()
    tail = f" (p99 {figure(now.p99)})" if now.p99 > 0 else ""
    return (f"{what} of {figure(now.mean)} tokens against {figure(before.mean)}{tail}",)


def _refusals(shift: Shift) -> tuple[str, ...]:
    refused = sum(shift.bad.refused.values())
    if refused / max(shift.bad.requests, 1.0) < 0.01:
        return ()
    reason = max(shift.bad.refused, key=lambda each: shift.bad.refused[each])
    return (f"{percent(refused / shift.bad.requests)} refused, mostly {reason}",)
