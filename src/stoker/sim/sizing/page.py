"""A plan as a page of its own: the range, its cost and times, the pictures, what more load would do; no script."""

from collections.abc import Sequence
from html import escape
from typing import Final

from stoker.sim.picture import THEME
from stoker.sim.sizing import chart
from stoker.sim.sizing.answer import Answer, Figures, Tried
from stoker.sim.sizing.words import cost, dollars, said, seconds, setting, share

STYLE: Final = """
body { margin: 2.5rem auto; max-width: 68rem; padding: 0 1.2rem; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.01em; }
h2 { font-size: 1.05rem; margin: 2.2rem 0 .6rem; } p { color: var(--dim); margin: .2rem 0; }
svg { width: 100%; height: auto; margin-top: 1rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; margin: 1.4rem 0; }
.card { border: 1px solid var(--rule); border-radius: 10px; padding: .8rem 1rem; }
.card b { display: block; font-size: 1.45rem; font-variant-numeric: tabular-nums; line-height: 1.3; }
.card span { color: var(--dim); font-size: .85rem; } .scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; white-space: nowrap;
  font-size: 13px; }
th, td { text-align: right; padding: .4rem .5rem; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; padding-left: 0; } th { color: var(--dim); font-weight: 500; }
details { margin-top: 1rem; } summary { color: var(--dim); cursor: pointer; }
tr.plan td { font-weight: 600; } .kept { color: #00875f; } .broken { color: #d55e00; }
pre { background: color-mix(in srgb, var(--rule) 35%, transparent); border-radius: 10px; padding: .8rem 1rem; }
@media (prefers-color-scheme: dark) { .kept { color: #3fb98a; } .broken { color: #ff8a4c; } }
"""


def page(answer: Answer, title: str) -> str:
    """Return the page; `title` is what came."""
    head = escape(chart.replicas(answer.chosen))
    pool = f" on {escape(answer.chosen.pool)}" if answer.is_priced else ""
    warning = "" if answer.chosen.is_sure else "<p class='broken'>No range held on every draw: leave room above.</p>"
    lines = "".join(f"<p>{escape(line)}</p>" for line in said(answer))
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Plan for {escape(title)}: {head}</title><style>{THEME}{STYLE}</style>\n"
        f"<p>Plan for {escape(title)}</p><h1>{head}{pool}</h1>{warning}\n{_cards(answer)}\n{chart.pictures(answer)}\n"
        f"<h2>With more load</h2>\n{_table(_grown(answer), answer)}\n"
        f"<details><summary>Everything that was tried</summary>{_table([('', each) for each in answer.tried], answer)}"
        "</details>\n"
        f"<h2>Make it so</h2><pre>{escape(chr(10).join(setting(answer.chosen.range)))}</pre>{lines}</html>\n"
    )


def _cards(answer: Answer) -> str:
    figures, fixed = answer.chosen.figures, answer.fixed.figures
    cards = [(f"{figures.replicas_mean:.2f}", f"replicas on average, {figures.replicas_most} at the most")]
    if answer.is_priced:
        cards.insert(0, (cost(figures).partition("/")[0], f"a month, {dollars(figures.usd_per_hour)} an hour"))
    saved = 1.0 - figures.usd_per_hour / fixed.usd_per_hour if fixed.usd_per_hour else 0.0
    if saved > 0.0:
        cards.append((f"−{saved * 100:.0f} %", f"against {answer.fixed.range.name} that always run"))
    cards += [
        (share(figures.kept[each.name]), f"{each.measure} ≤ {seconds(each.limit_s)}; promised: {each.target * 100:g} %")
        for each in answer.slos
    ]
    inside = "".join(
        f'<div class="card"><b>{escape(big)}</b><span>{escape(small)}</span></div>' for big, small in cards
    )
    return f'<div class="cards">{inside}</div>'


def _grown(answer: Answer) -> list[tuple[str, Tried]]:
    """Return the plan, what it is compared with and what becomes of it, each with its name."""
    chosen = answer.chosen
    rows = [("the plan", chosen), ("without scaling", answer.fixed)]
    for each in answer.grown:
        rows.append((f"at {each.times} times", Tried(chosen.pool, chosen.range, each.figures)))
        if each.enough is not None:
            rows.append((f"enough for {each.times} times", each.enough))
    return rows


def _table(rows: Sequence[tuple[str, Tried]], answer: Answer) -> str:
    is_named = any(name for name, _ in rows)
    times = ("ttft P50", "P95", "P99", "latency P50", "P95", "P99")
    promises = (f"{each.name} {seconds(each.limit_s)}" for each in answer.slos)
    headings = ["replicas", "on average", *(["a month"] if answer.is_priced else []), *times, *promises]
    head = "".join(f"<th>{escape(each)}</th>" for each in (["", *headings] if is_named else headings))
    body = "".join(_row(name, one, answer, is_named=is_named) for name, one in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _row(name: str, one: Tried, answer: Answer, *, is_named: bool) -> str:
    figures = one.figures
    pool = f" on {one.pool}" if answer.is_priced else ""
    cells = [*([name] if is_named else []), f"{one.range.name}{pool}", f"{figures.replicas_mean:.2f}"]
    if answer.is_priced:
        cells.append(cost(figures).partition("/")[0])
    cells += [seconds(each) for each in _quantiles(figures)]
    kept = "".join(_kept(figures.kept[each.name], each.target) for each in answer.slos)
    is_plan = (one.pool, one.range) == (answer.chosen.pool, answer.chosen.range) and name in ("", "the plan")
    kind = ' class="plan"' if is_plan else ""
    return f"<tr{kind}>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}{kept}</tr>"


def _kept(ratio: float, target: float) -> str:
    return f'<td class="{"kept" if ratio >= target else "broken"}">{share(ratio)}</td>'


def _quantiles(figures: Figures) -> tuple[float, ...]:
    return tuple(at_s for one in (figures.ttft, figures.latency) for at_s in (one.p50_s, one.p95_s, one.p99_s))
