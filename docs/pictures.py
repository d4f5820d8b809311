"""Draw docs/images: `python docs/pictures.py simulate` what `stoker simulate --load spike` draws, without a platform.

`STOKER_HOME=… python docs/pictures.py` draws live.svg from a platform that runs, while load is on it. plan.svg is drawn
by the command on the page (docs/how-to/size-an-endpoint.md).
"""

import io
import os
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from stoker.app import settings
from stoker.cli.frames import Watch
from stoker.cli.live import render
from stoker.cli.session import Session
from stoker.cli.simulate import POLICIES
from stoker.client.credentials import read_credentials
from stoker.sim import arrivals
from stoker.sim.compare import once
from stoker.sim.endpoint import Terms
from stoker.sim.picture import Track, svg
from stoker.sim.policies import named
from stoker.sim.service import Drawn

IMAGES = Path(__file__).parent / "images"
LOOKS = 25
WIDTH = 128

# No fonts from elsewhere: the page must look the same offline.
SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="stoker up">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs>{lines}
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g></svg>
"""
# A dark terminal: background, foreground, then black, red, green, yellow, blue, magenta, cyan, white, plain and bright.
PLAIN = "484f58 ff7b72 3fb950 d29922 58a6ff bc8cff 39c5cf b1bac4"
BRIGHT = "6e7681 ffa198 56d364 e3b341 79c0ff d2a8ff 56d4dd f0f6fc"
THEME = TerminalTheme(
    (13, 17, 23),
    (201, 209, 217),
    *([(int(c[:2], 16), int(c[2:4], 16), int(c[4:], 16)) for c in colours.split()] for colours in (PLAIN, BRIGHT)),
)


def simulated() -> str:
    """Return the picture of docs/how-to/simulate.md: its command's first run, under each policy."""
    came, terms = arrivals.make("spike", 0), Terms()
    return svg([Track(each, once(named(each), came, Drawn(), terms, 0).timeline) for each in POLICIES.split(",")])


def live() -> str:
    """Return what `stoker up` shows of the platform of STOKER_HOME."""
    chosen = settings.load(os.environ)
    session = Session(home=chosen.home)
    watch = Watch(session.control(), read_credentials(session.folder.credentials).gateway, time.time() - 75)
    for _ in range(LOOKS):
        frame = watch.look(time.time())
        time.sleep(1)
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(render(frame, WIDTH, 20))
    return console.export_svg(title="stoker up --demo", theme=THEME, code_format=SVG, unique_id="live")


if __name__ == "__main__":
    name, draw = ("simulate", simulated) if sys.argv[1:] == ["simulate"] else ("live", live)
    (IMAGES / f"{name}.svg").write_text(draw())
