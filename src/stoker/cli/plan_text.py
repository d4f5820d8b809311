"""A plan as people read it in a terminal: the range, its cost and its times, and what more load would do."""

from collections.abc import Sequence

import click

from stoker.cli.output import columns
from stoker.sim.sizing.answer import Answer, Figures, Tried
from stoker.sim.sizing.words import cost, said, seconds, setting, share

HEADINGS = ("", "REPLICAS", "ON AVERAGE", "COST", "TTFT P50", "P95", "P99", "LATENCY P50", "P95", "P99")


def text(answer: Answer, known: Sequence[str] = ()) -> str:
    """Return the answer: a table, the lines of a manifest, what was simulated. known: what a platform told."""
    chosen = answer.chosen
    rows = [
        _row("the plan", chosen, answer),
        _row("without scaling", answer.fixed, answer),
    ]
    for each in answer.grown:
        rows.append(_row(f"at {each.times} x", Tried(chosen.pool, chosen.range, each.figures), answer))
        if each.enough is not None:
            rows.append(_row(f"  enough for {each.times} x", each.enough, answer))
    headings = (*HEADINGS, *(f"{each.name} {seconds(each.limit_s)}".upper() for each in answer.slos))
    lines = [columns(headings, rows), "", *(f"  {line}" for line in setting(chosen.range)), ""]
    if not chosen.is_sure:
        lines.append(
            click.style("no range held on every draw; this one came nearest: leave room above it", fg="yellow")
        )
    return "\n".join([*lines, *(click.style(line, dim=True) for line in (*said(answer), *known))])


def _row(name: str, one: Tried, answer: Answer) -> tuple[str, ...]:
    figures = one.figures
    pool = f" on {one.pool}" if answer.is_priced else ""
    return (
        name,
        f"{one.range.name}{pool}",
        f"{figures.replicas_mean:.2f}",
        cost(figures) if answer.is_priced else "-",
        *(seconds(each) for each in (figures.ttft.p50_s, figures.ttft.p95_s, figures.ttft.p99_s)),
        *(seconds(each) for each in (figures.latency.p50_s, figures.latency.p95_s, figures.latency.p99_s)),
        *_kept(figures, answer),
    )


def _kept(figures: Figures, answer: Answer) -> list[str]:
    return [
        click.style(share(figures.kept[each.name]), fg="green" if figures.kept[each.name] >= each.target else "red")
        for each in answer.slos
    ]
