"""`stoker chat`: talk to a chat endpoint; one question, or a conversation on a terminal."""

import sys
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import click

from stoker.cli.output import duration, is_live, show
from stoker.cli.session import Command, Session, complete_endpoint, output_option, project_option
from stoker.client.data import ChatPiece, DataClient, Tokens
from stoker.types.errors import StokerError

CLEAR: Final = "\x1b[2K"  # the line on the terminal
# The oldest turns leave first; a conversation longer than this fits no small model's context anyway.
TURNS_MAX: Final = 200
_COMMANDS: Final = "/clear forgets the conversation, /exit or Ctrl-D ends it, Ctrl-C stops an answer"


@dataclass(frozen=True, slots=True)
class Said:
    """One whole answer and how fast it came."""

    text: str
    finish_reason: str
    usage: Tokens
    first_s: float
    total_s: float

    @property
    def tokens_per_s(self) -> float:
        """Tokens after the first one, over the time they took."""
        rest_s = self.total_s - self.first_s
        return (self.usage.completion_tokens - 1) / rest_s if self.usage.completion_tokens > 1 and rest_s > 0 else 0.0


@click.command(
    cls=Command,
    example="""
    stoker chat smol
    stoker chat smol "Name three colours."
    cat article.txt | stoker chat smol --system "Summarise in one sentence."
    """,
)
@click.argument("name", shell_complete=complete_endpoint)
@click.argument("prompt", required=False)
@click.option("--system", help="What the model is told before the conversation.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=512, help="Longest answer; 512 unless told.")
@click.option("--temperature", type=click.FloatRange(0, 2), help="0 always says the likeliest word.")
@click.option("--seed", type=int, help="The same seed gives the same answer, where the engine can.")
@output_option
@project_option
@click.pass_obj
def command(
    session: Session, /, name: str, prompt: str | None, system: str | None, output: str, project: str, **given: Any
) -> None:
    """Talk to a chat endpoint. With PROMPT, or text on standard input, one answer; else a conversation."""
    options = {key: value for key, value in given.items() if value is not None}
    messages = [{"role": "system", "content": system}] if system else []
    talk = _Talk(session.data(project), name, options, messages)
    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read().strip()
        if not prompt:
            raise click.UsageError("there is nothing on standard input to ask")
    if prompt is None:
        _converse(talk)
    elif output == "table":
        _note(talk.ask(prompt, aloud=True))
    else:
        said = talk.ask(prompt, aloud=False)
        show(
            {
                "text": said.text,
                "finish_reason": said.finish_reason,
                "usage": said.usage,
                "first_token_s": round(said.first_s, 4),
                "tokens_per_s": round(said.tokens_per_s, 2),
            },
            output,
            lambda: said.text,
        )


class _Talk:
    """One conversation."""

    def __init__(
        self, data: DataClient, endpoint: str, options: dict[str, Any], messages: list[dict[str, str]]
    ) -> None:
        self._data = data
        self._endpoint = endpoint
        self._options = options
        self._start = messages
        self._turns: list[dict[str, str]] = []

    def clear(self) -> None:
        """Forget what was said."""
        self._turns.clear()

    def ask(self, prompt: str, *, aloud: bool) -> Said:
        """Return the answer to `prompt`, printed as it comes when `aloud`. Ctrl-C keeps what came so far."""
        self._turns.append({"role": "user", "content": prompt})
        try:
            comment = _remark if aloud else None
            said = _listen(self._data.chat(self._endpoint, self._start + self._turns, self._options, comment), aloud)
        except StokerError:
            _remark("")
            self._turns.pop()
            raise
        self._turns.append({"role": "assistant", "content": said.text})
        del self._turns[:-TURNS_MAX]
        return said


def _remark(words: str) -> None:
    """Show a person who waits how far the load is; "" takes it away."""
    if is_live() and words != "ping":
        click.echo(f"\r{CLEAR}{click.style(words, dim=True)}\r", nl=False, err=True)


def _listen(pieces: Generator[ChatPiece, None, None], aloud: bool) -> Said:
    began_s = time.monotonic()
    first_s = 0.0
    words: list[str] = []
    finish_reason, usage = "", Tokens()
    with closing(pieces):  # which cancels the request, down to the engine
        try:
            for piece in pieces:
                if piece.text and not first_s:
                    first_s = time.monotonic() - began_s
                    _remark("")
                words.append(piece.text)
                if aloud and piece.text:
                    click.echo(piece.text, nl=False)
                    sys.stdout.flush()
                finish_reason = piece.finish_reason or finish_reason
                usage = piece.usage or usage
        except KeyboardInterrupt:
            finish_reason = "stopped by you"
    if aloud:
        click.echo()
    return Said("".join(words), finish_reason, usage, first_s, time.monotonic() - began_s)


def _note(said: Said) -> None:
    """Say how fast it was, on standard error, so that an answer can be piped."""
    if not sys.stderr.isatty():
        return
    words = [f"{said.usage.completion_tokens} tokens"] if said.usage.completion_tokens else []
    if said.first_s:
        words.append(f"first after {duration(said.first_s)}")
    if said.tokens_per_s:
        words.append(f"{said.tokens_per_s:.1f} tokens/s")
    if said.finish_reason not in ("stop", ""):
        words.append("cut at the longest answer" if said.finish_reason == "length" else said.finish_reason)
    click.echo(click.style("· " + ", ".join(words), dim=True), err=True)


def _converse(talk: _Talk) -> None:
    import readline  # noqa: F401 - gives input() history and editing

    click.echo(click.style(_COMMANDS, dim=True), err=True)
    while True:
        try:
            prompt = input("\001\033[1;36m\002›\001\033[0m\002 ").strip()
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            click.echo()
            continue
        if prompt in ("/exit", "/quit"):
            return
        if prompt == "/clear":
            talk.clear()
        elif prompt:
            try:
                _note(talk.ask(prompt, aloud=True))
            except StokerError as problem:
                from stoker.cli.exits import explain

                click.echo(explain(problem), err=True)
