"""The pages say what is true: reference pages are made from the code, links lead somewhere, commands exist."""

import dataclasses
import importlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import click
import pytest
from docs.pictures import simulated

from stoker.cli.main import SECTIONS
from stoker.gateway.http import incoming, limits
from stoker.gateway.http.connection import Limits
from stoker.protocol import manifest

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def reference_pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_pages", ROOT / "docs" / "reference_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted(reference_pages().PAGES))
def test_a_reference_page_is_what_the_code_says(name: str) -> None:
    made = reference_pages().PAGES[name]()
    assert (ROOT / "docs" / "reference" / name).read_text() == made, "run: python docs/reference_pages.py"


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Limits)])
def test_every_limit_of_a_connection_is_on_its_page(name: str) -> None:
    other = dataclasses.replace(Limits(), **{name: 987654})
    assert limits.page(other, {}) != limits.page(Limits(), {})


# The rooms of rollouts and releases.
BOUNDED = (
    *("gateway/arms.py", "gateway/reverts.py", "gateway/layers/shadow.py", "core/rollout", "core/verdict"),
    *("control/quiet.py", "control/judge.py", "control/policies.py", "control/evidence.py", "control/hooks.py"),
    *("control/rollouts.py", "control/releases", "store/rollouts.py", "store/outbox.py", "api/rollouts.py"),
    *("types/rollouts.py", "types/releases.py", "core/gate/golden.py"),
)


def test_every_maximum_of_rollouts_and_releases_is_on_the_page_of_limits() -> None:
    listed = (ROOT / "src" / "stoker" / "app" / "limits.py").read_text()
    places = [ROOT / "src" / "stoker" / each for each in BOUNDED]
    files = [file for place in places for file in (place.rglob("*.py") if place.is_dir() else (place,))]
    maxima = {
        (file.name, name)
        for file in files
        for name in re.findall(r"^([A-Z]\w*_MAX(?:_\w+)?)(?:: Final)? =", file.read_text(), re.MULTILINE)
    }
    assert len(maxima) > 25
    missing = [f"{file}: {name}" for file, name in sorted(maxima) if f".{name}" not in listed]
    assert missing == [], "a row for each in app/limits.py"


def test_the_headers_that_are_read_and_no_others_are_on_the_page_of_the_data_plane() -> None:
    section = (
        (ROOT / "docs" / "reference" / "data-plane.md").read_text().partition("## Headers")[2].partition("\n## ")[0]
    )
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    told = {name for names, direction in rows if direction.strip() != "out" for name in re.findall("`([^`]+)`", names)}
    told |= set(re.findall("`([a-z][a-z-]+)`", section.partition("Of HTTP's own")[2])) - {"gzip", "deflate"}
    assert told == {name.decode() for name in incoming.WANTED}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("http", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_on_a_page_exist(page: Path) -> None:
    known = {name for entries in SECTIONS.values() for name in entries}
    for name in re.findall(r"(?:^|\bbin/|`)stoker ([a-z][a-z-]*)", page.read_text(), re.MULTILINE):
        assert name in known | {"is"}, f"{page} speaks of `stoker {name}`"


def commands() -> dict[tuple[str, ...], set[str]]:
    """Return the options of every command, by its words."""
    return {
        words: {"--help"} | {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        for words, command in every_command().items()
    }


def every_command() -> dict[tuple[str, ...], click.Command]:
    found: dict[tuple[str, ...], click.Command] = {}

    def add(words: tuple[str, ...], command: click.Command) -> None:
        found[words] = command
        if isinstance(command, click.Group):
            for word, below in command.commands.items():
                add((*words, word), below)

    for entries in SECTIONS.values():
        for name, entry in entries.items():
            add((name,), importlib.import_module(f"stoker.cli.{entry.module}").command)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_on_a_page_are_those_of_their_command(page: Path) -> None:
    known = commands()
    for line in re.findall(r"(?:^|\bbin/|\$ |`)(stoker [^`\n|#]*)", page.read_text(), re.MULTILINE):
        words = line.split()[1:]
        name = next((tuple(words[:count]) for count in (2, 1) if tuple(words[:count]) in known), None)
        asked = {word.partition("=")[0] for word in words if word.startswith("--")}
        if name is not None:  # `stoker samples digits` is short for one of the words below it
            below = [options for each, options in known.items() if len(name) == 1 and each[:1] == name]
            assert asked <= known[name[:1]].union(known[name], *below), f"{page}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_on_a_page_have_the_options_that_they_cannot_do_without(page: Path) -> None:
    known = every_command()
    for line in re.findall(r"(?:^|\bbin/|\$ |`)(stoker [^`\n|#]*)", page.read_text(), re.MULTILINE):
        words = line.split()[1:]
        name = next((tuple(words[:count]) for count in (2, 1) if tuple(words[:count]) in known), ())
        given = [word for word in words[len(name) :] if not word.startswith("-")]
        if name and given and "…" not in words:  # else it is only named
            needed = [set(each.opts) for each in known[name].params if isinstance(each, click.Option) and each.required]
            assert all(each & set(words) for each in needed), f"{page}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_manifests_on_a_page_are_valid(page: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
        assert manifest.load(block)


def test_the_picture_of_the_simulation_is_what_its_command_draws_now() -> None:
    made = (ROOT / "docs" / "images" / "simulate.svg").read_text()
    assert simulated() == made, "run: python docs/pictures.py simulate"
