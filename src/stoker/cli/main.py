"""The `stoker` command: which commands there are, and how each ends.

A command's module is imported when the command runs, never for `stoker --help`: the whole table of commands is here.
"""

import importlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from stoker import __version__
from stoker.cli.exits import Exit, exit_code, explain, explain_crash
from stoker.cli.session import Session
from stoker.types.errors import StokerError


@dataclass(frozen=True, slots=True)
class Entry:
    """A command before it is loaded: its module (the attribute is `command`), and its line in the help."""

    module: str
    help: str


SECTIONS: Final[dict[str, dict[str, Entry]]] = {
    "Run the platform": {
        "up": Entry("up", "Start the platform and show it live."),
        "down": Entry("down", "Drain and stop the platform."),
        "status": Entry("status", "Show what runs and how it does."),
        "top": Entry("top", "Watch endpoints live."),
        "logs": Entry("logs", "Show the logs of an endpoint."),
        "backup": Entry("backup", "Write the platform to one sealed file, while it runs."),
        "restore": Entry("restore", "Make the platform that a backup holds."),
        "nodes": Entry("nodes", "Let machines join, list them, and remove them."),
        "node": Entry("node", "Make this machine a node of a platform, and run it."),
        "query": Entry("query", "Ask what any metric was, now or over time."),
        "why": Entry("why", "Say why an endpoint is worse than before."),
        "explain": Entry("explain", "Say why the platform decided as it did."),
        "incidents": Entry("incidents", "List, show and close incidents."),
        "traces": Entry("traces", "List requests that left a trace."),
        "trace": Entry("trace", "Show where the time of one request went."),
    },
    "Models": {
        "push": Entry("push", "Register a model from a file, a folder, a hub or a URL."),
        "models": Entry("models", "List models and versions, inspect, compare and sign them."),
        "trust": Entry("trust", "Say whose signatures of models count, and whether they are demanded."),
        "quantize": Entry("quantize", "Make a version of a model in fewer bits."),
        "alias": Entry("alias", "Name a version, such as digits@prod."),
    },
    "Endpoints": {
        "deploy": Entry("deploy", "Serve a model version under a name."),
        "rollouts": Entry("rollouts", "List, show and steer rollouts."),
        "release": Entry("release", "Show what a revision must pass before it takes traffic."),
        "golden": Entry("golden", "Hold revisions against examples with known answers."),
        "rollback": Entry("rollback", "Return an endpoint to an earlier revision."),
        "apply": Entry("apply", "Make the platform match manifests."),
        "diff": Entry("diff", "Show what apply would change."),
        "get": Entry("get", "List resources, or get one."),
        "describe": Entry("describe", "Show everything about one resource."),
        "boundary": Entry("boundary", "Say who owns what of an endpoint, and whether it is kept."),
        "drift": Entry("drift", "Show how far an endpoint's data moved from its reference."),
        "feedback": Entry("feedback", "Send what turned out to be true of predictions."),
        "quality": Entry("quality", "Show how good an endpoint's predictions were."),
        "delete": Entry("delete", "Delete a resource."),
    },
    "Promises": {
        "slo": Entry("slo", "Show how objectives stand."),
        "alerts": Entry("alerts", "List alerts and silences."),
        "policy": Entry("policy", "Say what changes are held to, and test it."),
        "gameday": Entry("gameday", "Break something on purpose and score what happens."),
    },
    "Plan": {
        "plan": Entry("plan", "Find the cheapest range of replicas that keeps what is promised."),
        "simulate": Entry("simulate", "Compare scaling policies on simulated load."),
    },
    "Call": {
        "chat": Entry("chat", "Talk to a chat endpoint."),
        "predict": Entry("predict", "Send a request to an endpoint and print the outputs."),
        "samples": Entry("samples", "Look at sampled requests, export and replay them."),
    },
    "Access and tools": {
        "login": Entry("login", "Sign in by an identity provider."),
        "logout": Entry("logout", "Sign out."),
        "sessions": Entry("sessions", "Say who is signed in, and end sessions."),
        "keys": Entry("keys", "Create, list, limit, rotate and revoke API keys."),
        "secrets": Entry("secrets", "Say which secrets are named where, and whether they can be read."),
        "members": Entry("members", "Say who may do what in a project."),
        "costs": Entry("costs", "Show what serving cost, whose it was, and what it will."),
        "budgets": Entry("budgets", "Show what may be spent, what was, and until when."),
        "quota": Entry("quotas", "Show how quotas stand, or change what bounds a project or the platform."),
        "usage": Entry("usage", "Show what was used and what it cost, by whom."),
        "prices": Entry("prices", "Show, or set, what requests cost by default."),
        "settings": Entry("settings", "Show, or change, settings while the platform runs."),
        "audit": Entry("audit", "Say who did what, and prove that nobody changed the record."),
        "projects": Entry("projects", "List, create and delete projects."),
        "export": Entry("export", "Print what Prometheus and Grafana need to know."),
        "schema": Entry("schema", "Print the JSON Schema of manifests, for editors."),
        "completion": Entry("completion", "Print the completion script of your shell."),
    },
}
_NAME_WIDTH: Final = 10  # the same in every section, so that the lines stand in one column
COMMANDS: Final = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class LazyGroup(click.Group):
    """A group that knows its commands by the table and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every command, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        found: click.Command = importlib.import_module(f"stoker.cli.{entry.module}").command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands by section."""
        for section, entries in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(_NAME_WIDTH), entry.help) for name, entry in entries.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the first steps."""
        with formatter.section("Example"):
            formatter.write_text("stoker up --demo")
            formatter.write_text('stoker chat smol "Name three colours."')
            formatter.write_text("stoker push mine model.onnx && stoker deploy mine --model mine --wait")


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from stoker.telemetry.build import build

        click.echo(f"stoker, version {__version__} ({build()})")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--home",
    envvar="STOKER_HOME",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: Path.home() / ".stoker",
    help="State folder of the platform.  [env STOKER_HOME; default: ~/.stoker]",
)
@click.option("--api", envvar="STOKER_API", help="Control's address, when it is not this machine's.  [env STOKER_API]")
@click.option("--gateway", envvar="STOKER_GATEWAY", help="The gateway's address.  [env STOKER_GATEWAY]")
@click.option("--key", envvar="STOKER_KEY", help="API key, when it is not the state folder's.  [env STOKER_KEY]")
@click.option(
    "--ca", envvar="STOKER_CA", default="", help="Who signed the gateway's certificate (PEM).  [env STOKER_CA]"
)
@click.option(
    "--cert", envvar="STOKER_CERT", default="", help="Certificate and key (PEM) to show the gateway.  [env STOKER_CERT]"
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version and exit."
)
@click.pass_context
def cli(
    ctx: click.Context, home: Path, api: str | None, gateway: str | None, key: str | None, ca: str, cert: str
) -> None:
    """Managed inference that you run yourself."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False
    folder = Path(os.path.abspath(home.expanduser()))  # noqa: PTH100
    ctx.obj = Session(home=folder, api=api, gateway=gateway, key=key, ca=ca, cert=cert)


def main() -> int:
    """Run the command; return its exit code. No error leaves as a traceback."""
    try:
        result = cli.main(standalone_mode=False)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.UsageError as wrong:
        wrong.show()
        return Exit.USAGE
    except click.ClickException as wrong:
        wrong.show()
        return Exit.FAILED
    except StokerError as problem:
        click.echo(explain(problem), err=True)
        return exit_code(problem)
    except (KeyboardInterrupt, click.Abort):
        click.echo(err=True)
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # `stoker get | head`: the reader has what it wanted; nothing more may be flushed into the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except Exception as crash:
        if os.environ.get("STOKER_DEBUG"):
            import traceback

            traceback.print_exc()
        click.echo(explain_crash(crash), err=True)
        return Exit.FAILED
    return result if isinstance(result, int) else Exit.OK


if __name__ == "__main__":
    sys.exit(main())
