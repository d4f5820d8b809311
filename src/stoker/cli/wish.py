"""What somebody wishes of an endpoint on the command line: as fields of its manifest, and back in what they typed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from stoker.cli.values import typed
from stoker.client.connection import Detail, ManifestRefused, PolicyRefused
from stoker.types.resources import Endpoint
from stoker.types.rollouts import Strategy

Path = tuple[str, ...]  # of a field: ("spec", "resources", "cpu")
Fields = dict[Path, Any]

_OPTIONS: Final[dict[Path, str]] = {
    ("spec", "model"): "--model",
    ("spec", "task"): "--task",
    ("spec", "engine"): "--engine",
    ("spec", "options"): "--option",
    ("spec", "env"): "--env",
    ("spec", "resources", "cpu"): "--cpu",
    ("spec", "resources", "memory"): "--memory",
    ("spec", "resources", "gpu"): "--gpu",
    ("spec", "replicas"): "--replicas",
    ("spec", "rollout", "strategy"): "--strategy",
    ("spec", "rollout", "steps"): "--steps",
    ("spec", "rollout", "dwell"): "--dwell",
    ("spec", "rollout", "requests_min"): "--requests-min",
    ("metadata", "labels"): "--label",
}
_KEYED: Final = ("--option", "--env", "--label")


class Refused(ManifestRefused):
    """What was asked for cannot be; `details` say what of it, in the words of the command line."""

    def __init__(self, where: str, details: tuple[Detail, ...]) -> None:
        super().__init__(details)
        self.message = f"endpoint {where} cannot be as asked; nothing was changed"


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants of an endpoint; None and empty keep what is there, or the default."""

    model: str | None = None
    task: str | None = None
    engine: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    cpu: float | None = None
    memory: str | None = None
    gpu: float | None = None
    replicas: int | None = None
    strategy: Strategy | None = None
    steps: tuple[int, ...] = ()
    dwell: str | None = None
    requests_min: int | None = None
    labels: dict[str, str] = field(default_factory=dict)

    def fields(self) -> Fields:
        """Return what is set by it, by field."""
        found: Fields = {("spec", name): getattr(self, name) for name in ("model", "task", "engine")}
        found |= {("spec", "options", key): typed(text) for key, text in self.options.items()}
        found |= {("spec", "env", key): text for key, text in self.env.items()}
        found |= {("spec", "resources", name): getattr(self, name) for name in ("cpu", "memory", "gpu")}
        found |= {("spec", "replicas", end): self.replicas for end in ("min", "max")}
        found |= {("spec", "rollout", name): getattr(self, name) for name in ("strategy", "dwell", "requests_min")}
        found[("spec", "rollout", "steps")] = list(self.steps) or None
        found |= {("metadata", "labels", key): text for key, text in self.labels.items()}
        return {path: value for path, value in found.items() if value is not None}


def values(resource: Endpoint) -> dict[str, Any]:
    """Return an endpoint as plain values, without what is not set."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(resource))
    return {
        "metadata": {"labels": plain["metadata"]["labels"]},
        "spec": {key: value for key, value in plain["spec"].items() if value is not None},
    }


def changed(there: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """Return `there` with `fields` set. Does not modify `there`."""
    made = msgspec.json.decode(msgspec.json.encode(there))
    for path, value in fields.items():
        within = made
        for part in path[:-1]:
            within = within.setdefault(part, {})
        within[path[-1]] = value
    return dict(made)


def contested(fields: Fields, before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[Path, Any]:
    """Return what of `fields` somebody else set since `before`, to something else: what it is now, by field."""
    there = {path: _at(now, path) for path in fields}
    return {path: value for path, value in there.items() if value != fields[path] and value != _at(before, path)}


def in_words(
    wrong: ManifestRefused | PolicyRefused, fields: Fields, project: str, name: str
) -> ManifestRefused | PolicyRefused:
    """Return an error about a manifest that nobody wrote as one about what was typed."""
    details = tuple(
        Detail(each.message, field=_typed(each.field, fields, project, name) if each.field else "")
        for each in wrong.details
    )
    return PolicyRefused(details) if isinstance(wrong, PolicyRefused) else Refused(f"{project}/{name}", details)


def option(path: Path, value: object) -> str:
    """Return the option that set a field: `--cpu 2`, `--option context=4096`; `--env KEY` without its value."""
    word, key = _option(path)
    if word == "--env":
        return f"{word} {key}"
    shown = (
        ",".join(map(str, value)) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else value
    )
    return f"{word} {key}={shown}" if key else f"{word} {shown}"


def _option(path: Path) -> tuple[str, str]:
    """Return the option that sets a field, and which key of it, where it has keys; "" for a field that has none."""
    found = next((at for at in _OPTIONS if path[: len(at)] == at), None)
    if found is None:
        return "", ""
    return _OPTIONS[found], ".".join(path[len(found) :]) if _OPTIONS[found] in _KEYED else ""


def _typed(at: str, fields: Fields, project: str, name: str) -> str:
    """Return the options that made the field `at` what it is; else the one that would, or the field."""
    if at in ("metadata.name", "metadata.project", "spec"):
        return {"metadata.name": name, "metadata.project": f"-p {project}"}.get(at, "")
    whole, at = at, at.partition("[")[0]
    mine = [
        option(path, value)
        for path, value in fields.items()
        if f"{at}.".startswith(f"{'.'.join(path)}.") or f"{'.'.join(path)}.".startswith(f"{at}.")
    ]
    if mine:
        return " ".join(dict.fromkeys(mine))
    word, key = _option(tuple(at.split(".")))
    return f"{word}{f' {key}=…' if key else ''} (not given)" if word else whole


def _at(there: Mapping[str, Any], path: Path) -> Any:
    found: Any = there
    for part in path:
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
