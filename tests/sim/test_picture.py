"""The picture of a run is a page by itself, and its lines say what happened."""

import re
import xml.dom.minidom
from itertools import pairwise

from stoker.sim.picture import LEFT, PANEL, TOP, Track, page, svg
from stoker.sim.run import Sample

RISING = [Sample(at * 10.0, at * 50, 1 + (at > 5), 0, max(0, at - 3), 2) for at in range(12)]
TRACKS = [Track("stoker", RISING), Track("<kpa>", RISING)]


def lines(text: str) -> list[list[tuple[float, float]]]:
    found = re.findall(r'<polyline[^>]* points="([^"]*)"', text)
    return [[(float(x), float(y)) for x, y in (pair.split(",") for pair in each.split())] for each in found]


def test_the_drawing_is_well_formed_and_asks_nothing_of_elsewhere() -> None:
    text = svg(TRACKS)
    xml.dom.minidom.parseString(text)
    whole = page("A <load>", "what & why", TRACKS, [["POLICY", "LATE"], ["stoker", "1 %"], ["<kpa>", "2 %"]])
    assert not re.findall(r"<script|(?:href|src|url)\s*[=(]", whole)
    assert "&lt;kpa&gt;" in whole
    assert "<kpa>" not in whole
    assert re.findall(r"https?://[^\s\"']+", whole) == ["http://www.w3.org/2000/svg"]


def test_replicas_are_steps_from_the_beginning_to_the_end() -> None:
    replicas = lines(svg(TRACKS))[0]
    assert replicas[0][0] == LEFT
    assert replicas[-1][0] > 900
    assert len({y for _, y in replicas}) == 2  # one replica, then two
    assert all(one[0] == after[0] or one[1] == after[1] for one, after in pairwise(replicas))


def test_nothing_that_happens_is_drawn_outside_of_its_panel() -> None:
    for at, line in enumerate(lines(svg(TRACKS))):
        top = TOP + (1 if at < len(TRACKS) else 2) * (PANEL + 44)
        assert all(top <= y <= top + PANEL for _, y in line)


def test_a_run_in_which_nothing_came_has_a_picture_too() -> None:
    xml.dom.minidom.parseString(svg([Track("idle", [Sample(0.0, 0, 0, 0, 0, 0)])]))
