"""`stoker models compare`: how alike two versions of a language model answer."""

from contextlib import closing
from pathlib import Path

import click
import msgspec

from stoker.cli.output import columns, show
from stoker.cli.progress import Progress
from stoker.cli.session import Command, Session, output_option, project_option
from stoker.cli.signing import wanted
from stoker.cli.values import file_bytes
from stoker.client import works
from stoker.types.errors import InvalidInput, NotReachable
from stoker.types.likeness import Estimate, Likeness
from stoker.types.units import format_bytes
from stoker.types.work import Step

TEXTS_BYTES_MAX = 8 * 2**20  # control takes no larger body


class _Line(msgspec.Struct, frozen=True):
    """A line of a file of texts; other fields may be there."""

    text: str


@click.command(
    cls=Command,
    example="""
    stoker models compare smol@1 smol@2
    stoker models compare smol@1 smol@2 --texts ours.jsonl -o json
    """,
)
@click.argument("base", metavar="NAME[@VERSION]")
@click.argument("other", metavar="NAME[@VERSION]")
@click.option(
    "--texts",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help='Texts that both read: JSONL, each line a text in quotes or {"text": "…"}.  [default: everyday texts]',
)
@output_option
@project_option
@click.pass_obj
def compare(session: Session, base: str, other: str, texts: Path | None, output: str, project: str) -> None:
    """Compare two versions of a language model: perplexity, agreement, speed, size.

    Both read the same texts in turns, on the platform's machine, beside what serves there. Of every number there is the
    interval that 19 of 20 other sets of such texts would give.
    """
    given = read_texts(texts) if texts is not None else ()
    one, two = wanted(session, base), wanted(session, other)
    refs = ((one.name, str(one.number)), (two.name, str(two.number)))
    steps = works.compare(session.control().connection, *refs, given, project)
    found: Likeness | None = None
    with closing(steps), Progress(f"Comparing {two.ref} with {one.ref}") as progress:
        for said in steps:
            if isinstance(said, Step):
                progress.step(said.stage)
                progress.update(said.done, said.total)
            else:
                found = said
    if found is None:
        raise NotReachable("control broke off in the middle of its work")
    made = found
    show(made, output, lambda: likeness_table(made))


def read_texts(file: Path) -> tuple[str, ...]:
    """Return the texts of a JSONL file. Raises NotFound; InvalidInput with the line."""
    data = file_bytes(file, TEXTS_BYTES_MAX + 1)
    if len(data) > TEXTS_BYTES_MAX:
        raise InvalidInput(f"{file} is larger than {format_bytes(TEXTS_BYTES_MAX)}; take a part of it")
    found = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            said = msgspec.json.decode(line, type=str | _Line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as wrong:
            raise InvalidInput(
                f'line {number} of {file} is neither a text in quotes nor {{"text": "…"}}: {wrong}'
            ) from wrong
        found.append(said if isinstance(said, str) else said.text)
    return tuple(found)


def likeness_table(found: Likeness) -> str:
    """Return the comparison for people."""
    base, other = found.base, found.other
    rows = [
        (
            "perplexity",
            f"{base.perplexity.value:.2f}",
            f"{other.perplexity.value:.2f}",
            f"{found.perplexity_ratio.value - 1:+.1%}",
            _changes(found.perplexity_ratio),
        ),
        ("same next token", "", "", f"{found.agreement_ratio.value:.1%}", _shares(found.agreement_ratio)),
        (
            "reads, tokens/s",
            f"{base.read_tokens_per_s:.1f}",
            f"{other.read_tokens_per_s:.1f}",
            f"×{found.read_speed_ratio.value:.2f}",
            _times(found.read_speed_ratio),
        ),
        (
            "writes, tokens/s",
            f"{base.write_tokens_per_s:.1f}",
            f"{other.write_tokens_per_s:.1f}",
            f"×{found.write_speed_ratio.value:.2f}",
            _times(found.write_speed_ratio),
        ),
        ("size", format_bytes(base.size_bytes), format_bytes(other.size_bytes), f"×{found.size_ratio:.2f}", ""),
    ]
    table = columns(("", base.ref, other.ref, "CHANGE", "95 % INTERVAL"), rows, empty="")
    words = f"{found.tokens} tokens of {found.texts} texts, read by {base.engine}"
    return f"{table}\n{click.style(words, dim=True)}\n{verdict(found.perplexity_ratio)}"


def verdict(ratio: Estimate) -> str:
    """Return in words what the change of the perplexity amounts to."""
    if ratio.low > 1.0:
        return f"It reads these texts worse: its perplexity is {ratio.low - 1:.1%} to {ratio.high - 1:.1%} higher."
    if ratio.high < 1.0:
        return f"It reads these texts better: its perplexity is {1 - ratio.high:.1%} to {1 - ratio.low:.1%} lower."
    return "No difference is proven; more texts would tell a smaller one."


def _changes(ratio: Estimate) -> str:
    return f"{ratio.low - 1:+.1%} … {ratio.high - 1:+.1%}"


def _shares(share: Estimate) -> str:
    return f"{share.low:.1%} … {share.high:.1%}"


def _times(ratio: Estimate) -> str:
    return f"×{ratio.low:.2f} … ×{ratio.high:.2f}"
