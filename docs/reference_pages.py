"""Make the reference pages from the code: `python docs/reference_pages.py`. A test holds the pages to it."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from stoker import __version__
from stoker.api.app import OPERATIONS
from stoker.app import settings
from stoker.app.limits import sections
from stoker.cli import exits
from stoker.cli.main import SECTIONS, cli
from stoker.core import alarms
from stoker.core.alerts import INHIBITIONS
from stoker.core.diagnose import causes
from stoker.gateway.http import limits
from stoker.gateway.http.connection import Limits
from stoker.observe.objectives.alarms import QUESTIONS
from stoker.protocol import manifest
from stoker.protocol.grpc_status import status_of
from stoker.protocol.rules import FUNCTIONS
from stoker.telemetry import reference as metrics
from stoker.types import errors
from stoker.types.policies import Document

FOLDER = Path(__file__).parent / "reference"
ALERTS = """# Alerts

What [receivers](../how-to/alerts.md) are told of. Objectives that burn are one alert, `SloBurn`, with the labels `slo`,
`sli`, `project`, `endpoint` and, where the objective has them, `owner` and `tenant`; it is a page or a ticket as
[explained](../explanation/slos.md). The others are there without any objective. `stoker export prometheus-rules` has
those that can be seen in metrics, as `Stoker…`.
"""
MADE = "This page is made by `python docs/reference_pages.py`.\n"


def errors_page() -> str:
    rows = sorted(errors.all_codes().values(), key=lambda kind: (kind.status, kind.code))
    table = "\n".join(
        f"| [`{kind.code}`](../how-to/errors.md#{kind.code}) | {kind.status} | `{status_of(kind).name}` "
        f"| {'yes' if kind.retryable else 'no'} | {first_line(kind.__doc__)} |"
        for kind in rows
    )
    return (
        '# Errors\n\nOpenAI routes answer `{"error": {"message", "type", "param", "code"}}`, inference routes '
        '`{"error": "…"}`, the control API\n`{"error": {"code", "message", "field", "details"}}`. '
        "Those worth a retry carry `Retry-After`.\n\n"
        f"| code | HTTP | gRPC | retry helps | meaning |\n|---|---|---|---|---|\n{table}\n\n{MADE}"
    )


def commands_page() -> str:
    parts = ["# Commands\n", "Every command has `--help` with an example.\n"]
    above = click.Context(cli, info_name="stoker", **cli.context_settings)
    for section, entries in SECTIONS.items():
        parts.append(f"## {section}\n")
        for name, entry in entries.items():
            module = importlib.import_module(f"stoker.cli.{entry.module}")
            parts += list(command(above, name, module.command))
    codes = (exits.__doc__ or "").partition("code  meaning\n")[2].strip()
    parts.append("## Exit codes\n\n| code | meaning |\n|---|---|")
    parts += [f"| {line.split(None, 1)[0]} | {line.split(None, 1)[1]} |" for line in codes.splitlines()]
    return "\n".join(parts) + f"\n\n{MADE}"


def command(above: click.Context, name: str, shown: click.Command) -> Iterator[str]:
    """Yield the help of a command and of what is below it."""
    context = click.Context(shown, parent=above, info_name=name, max_content_width=110, terminal_width=110)
    yield f"### {context.command_path}\n\n```\n{shown.get_help(context).rstrip()}\n```\n"
    if isinstance(shown, click.Group):
        for word in shown.list_commands(context):
            below = shown.get_command(context, word)
            if below is not None:
                yield from command(context, word, below)


def manifests_page() -> str:
    schema = manifest.json_schema()
    parts = [
        "# Manifests\n",
        "What `stoker apply -f` reads: YAML or JSON, several documents in a file. Unknown fields are refused.\n",
        "`stoker schema` prints the same as JSON Schema, for editors.\n",
    ]
    for name, definition in schema["$defs"].items():
        if "properties" not in definition:
            continue
        parts.append(f"## {name}\n\n{definition.get('description', '')}\n")
        parts.append("| field | type | default | meaning |\n|---|---|---|---|")
        needed = definition.get("required", [])
        for field, value in definition["properties"].items():
            default = "required" if field in needed else f"`{shown_value(value.get('default'))}`"
            parts.append(f"| `{field}` | {kind_of(value)} | {default} | {value.get('description', '')} |")
        parts.append("")
    return "\n".join(parts) + f"\n{MADE}"


def kind_of(value: dict[str, Any]) -> str:
    """Return a field's type in words."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in value:
        return " \\| ".join(f"`{shown_value(one)}`" for one in value["enum"])
    if "anyOf" in value:
        return " or ".join(kind_of(one) for one in value["anyOf"])
    bounds = [f"{sign} {value[word]}" for word, sign in BOUNDS.items() if word in value]
    return " ".join([str(value.get("type", "any")), *([f"({', '.join(bounds)})"] if bounds else [])])


BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤"}


def shown_value(value: object) -> str:
    """Return a default as it would be written in a manifest."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


CONDITIONAL = """\
## Change only what you saw

An endpoint is written whole, so of two who read it and write it, the second would undo the first. `GET` of an endpoint
says its `ETag`; `PUT` with `If-Match: "…"` writes only if it is still that, and with `If-None-Match: *` only if there
is none of that name. Otherwise the answer is 412 `precondition_failed`, and nothing was changed. Without either, `PUT`
writes whatever is there.

The tag is of what was asked for: every change of the spec or the labels gives another one, and so does a deletion; the
status beside it does not. It is not a number: give it back as it is. `PUT` answers the endpoint with its new tag, and
in `applied` what it did.

`POST /api/v1/apply` takes `If-Match` too, with the tags of all endpoints in its body: each must be there and have one
of them.
"""


def api_page() -> str:
    public = [each for each in OPERATIONS if each.access != "socket"]
    rows = "\n".join(f"| `{each.method}` | `{each.path}` | {each.summary} |" for each in public)
    return (
        f"# Control API\n\nVersion {__version__}. On the port after the gateway's, and on a socket of the state folder."
        "\nEvery route but the probes and the\ndescription needs an admin key (`Authorization: Bearer …`);\n"
        "queries take any key and show it its own project. The OpenAPI "
        "document is at `/api/v1/openapi.json`.\n\n"
        f"| method | path | what it does |\n|---|---|---|\n{rows}\n\n{CONDITIONAL}\n{MADE}"
    )


def first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0]


def limits_page() -> str:
    return f"{limits.page(Limits(), sections())}\n{MADE}"


def alerts_page() -> str:
    asked = {each.alarm: each for each in QUESTIONS}
    parts = [ALERTS]
    for each in alarms.ALARMS:
        told = "at once" if not each.holds_s else f"after {each.holds_s:.0f} s"
        parts.append(f"## {each.name}\n\nA {each.severity}, {told}: {each.summary.format(who='…', value='…')}.\n")
        if each.name in asked:
            parts.append(f"**When** {asked[each.name].words}.\n")
        parts.append(f"**Do** {each.do}.\n")
    parts.append("## What is no news\n\n| while there is | of the same endpoint | because |\n|---|---|---|")
    parts += [
        f"| {labels(rule.source)} | {', '.join(map(labels, rule.targets))} | {rule.words} |" for rule in INHIBITIONS
    ]
    return "\n".join(parts) + f"\n\n{MADE}"


def labels(wanted: Mapping[str, str]) -> str:
    return "`" + ",".join(f"{name}={value}" for name, value in wanted.items()) + "`"


def causes_page() -> str:
    rows = "\n".join(
        f"| [`{kind}`](../how-to/runbooks.md#{kind.replace('_', '-')}) | {causes.TITLES[kind]} "
        f"| {causes.REMEDIES[kind].replace('_', ' ')} | {', '.join(f'`{other}`' for other in causes.MAKES[kind])} |"
        for kind in causes.KINDS
    )
    return (
        "# Causes\n\nWhat `stoker why` and incidents can name. The runbook of each says how to make sure and what to "
        "do. What a cause makes another look like\nloses by as much as the cause itself is seen.\n\n"
        f"| cause | in words | remedy | also looks like |\n|---|---|---|---|\n{rows}\n\n{MADE}"
    )


POLICIES = """# What policies see

The values that an [admission policy](../how-to/policies.md)'s expressions may look at, besides `variables`.
`resource` and `old` are the manifest ([every field](manifests.md)) with each default written out; sizes are bytes and
times seconds, as numbers. Of a Model they have `kind`, `metadata` (`name`, `project`) and `spec` (`alias`, `number`).
"""


def policies_page() -> str:
    schema = msgspec.json.schema(Document)
    parts = [POLICIES]
    for name, definition in sorted(schema["$defs"].items(), key=lambda item: item[0] != "Document"):
        parts.append(f"## {name}\n\n{definition.get('description', '').split(chr(10))[0]}\n")
        parts.append("| field | type | meaning |\n|---|---|---|")
        for field, value in definition["properties"].items():
            kind = f"list of {kind_of(value['items'])}" if value.get("items") else kind_of(value)
            parts.append(f"| `{field}` | {kind} | {value.get('description', '')} |")
        parts.append("")
    names = ", ".join(f"`{name}`" for name in sorted(FUNCTIONS))
    parts.append(f"## Functions\n\n{names}, and the loops `all`, `exists`, `exists_one`, `map`, `filter`.\n")
    return "\n".join(parts) + f"\n{MADE}"


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings.page,
    "errors.md": errors_page,
    "commands.md": commands_page,
    "manifests.md": manifests_page,
    "api.md": api_page,
    "metrics.md": metrics.page,
    "limits.md": limits_page,
    "alerts.md": alerts_page,
    "causes.md": causes_page,
    "policies.md": policies_page,
}


def main() -> None:
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())


if __name__ == "__main__":
    main()
