"""The page of `stoker why`, as a person reads it."""

import click

from stoker.cli.why import page
from stoker.core.diagnose.causes import Cause
from stoker.core.diagnose.shift import Harm
from stoker.core.diagnose.verdict import Diagnosis, Explanation
from stoker.core.diagnose.window import Change


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


def test_below_it_stand_evidence_what_to_do_and_what_was_done() -> None:
    lines = "\n".join(shown(cause(0.9)))
    order = ["queue +3.90 s", "90%", "tenant f brings 97 %", "stoker keys limit", "#noisy-tenant", "revision 2 serves"]
    places = [lines.index(words) for words in order]
    assert places == sorted(places)


def test_what_is_not_known_is_said() -> None:
    assert "nothing that is measured explains it" in shown()[0]
    assert "is as it was" in shown(is_wrong=False)[0]
