"""The page of `stoker why`, as a person reads it."""

import click
import msgspec

from stoker.cli.exits import Exit
from stoker.cli.why import page
from stoker.core.diagnose.causes import Cause
from stoker.core.diagnose.shift import Harm
from stoker.core.diagnose.verdict import Diagnosis, Explanation
from stoker.core.diagnose.window import Change
from stoker.types.remedies import Act, Load
from tests.cli.run import stoker_here


def shown(*causes: Cause, is_wrong: bool = True) -> list[str]:
    diagnosis = Diagnosis(is_wrong, Harm(latency=1.0), 600.0, causes, {"queue": 3.9, "decode": -0.1})
    found = Explanation(diagnosis, 600.0, 1200.0, 0.0, 600.0, (Change(590.0, "traffic", "revision 2 serves"),))
    return click.unstyle(page(found, "chat")).splitlines()


def cause(confidence: float) -> Cause:
    return Cause(
        "noisy_tenant", confidence, ("tenant f brings 97 % of the growth",), 600.0, "tenant f", 0.4, remedy="shed"
    )


def test_the_first_line_says_what_is_wrong_and_why() -> None:
    first = shown(cause(0.9))[0]
    assert first.startswith("chat is worse since ")
    assert first.endswith("because one tenant takes the capacity of the others (tenant f).")
    assert "perhaps because" in shown(cause(0.3))[0]


def test_without_requests_nothing_is_said_to_be_as_it_was() -> None:
    well = Explanation(Diagnosis(False, Harm(), 600.0), 600.0, 1200.0, 0.0, 600.0, requests=9.0, base_requests=9.0)
    assert click.unstyle(page(well, "chat")).startswith("chat is as it was: nothing got worse by more than chance.")
    unasked = click.unstyle(page(msgspec.structs.replace(well, requests=0.0), "chat"))
    assert unasked.splitlines()[0].startswith("nobody asked chat from ")
    new = click.unstyle(page(msgspec.structs.replace(well, base_requests=0.0), "chat"))
    assert new.splitlines()[0].endswith("cannot be told: nobody asked it before.")


def test_below_it_stand_evidence_what_to_do_and_what_was_done() -> None:
    lines = "\n".join(shown(cause(0.9)))
    order = ["queue +3.90 s", "90%", "tenant f brings 97 %", "stoker keys limit", "#noisy-tenant", "revision 2 serves"]
    places = [lines.index(words) for words in order]
    assert places == sorted(places)


def test_what_would_be_done_by_itself_and_what_was_is_shown() -> None:
    diagnosis = Diagnosis(True, Harm(latency=1.0), 600.0, (cause(0.9),))
    done = Act(1, "shed-sheddable", "", "noisy_tenant, 90 % sure", 700.0, before=Load(60.0, 0.2, 1.5))
    found = Explanation(diagnosis, 600.0, 1200.0, 0.0, 600.0, next_act="restart a-1-x", next_because="bad_replica")
    lines = "\n".join(click.unstyle(page(found, "chat")).splitlines())
    assert "by itself: restart a-1-x, for bad_replica" in lines
    assert "What it did by itself" not in lines
    acting = msgspec.structs.replace(found, acts=(done,), next_act="", next_because="one thing is done at a time")
    lines = click.unstyle(page(acting, "chat"))
    assert "by itself: nothing: one thing is done at a time" in lines
    assert "1: shed-sheddable, for noisy_tenant, 90 % sure" in lines
    assert "in force" in lines
    over = msgspec.structs.replace(done, ended_at_s=760.0, outcome="the incident is over", after=Load(60.0, 0.0, 0.1))
    lines = " ".join(click.unstyle(page(msgspec.structs.replace(found, acts=(over,)), "chat")).split())
    assert "over after 60 s: the incident is over; 20 % of the requests failed and they took 1.5 s; now 0 %" in lines


def test_what_is_not_known_is_said() -> None:
    assert "nothing that is measured explains it" in shown()[0]
    assert "is as it was" in shown(is_wrong=False)[0]


def test_a_stretch_that_cannot_be_looked_at_is_refused_with_how_to_say_it() -> None:
    for words in (("--since", "3h"), ("--since", "400d"), ("--until", "8d"), ("--since", "11h", "--until", "8h")):
        done = stoker_here("why", "chat", *words)
        assert done.returncode == Exit.REFUSED
        assert "such as --since 9h --until 8h" in done.stderr
