"""`stoker predict`: one request to an endpoint, its outputs for people or programs."""

import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec

from stoker.cli.output import show
from stoker.cli.session import Command, Session, complete_endpoint, output_option, project_option
from stoker.cli.values import content
from stoker.client.data import ModelMetadata
from stoker.types.errors import InvalidInput
from stoker.types.models import TensorSpec

if TYPE_CHECKING:
    from stoker.client.tensors import InferAnswer
    from stoker.protocol.oip_binary import Array


@click.command(
    cls=Command,
    example="""
    stoker predict digits --input '[0, 0, 5, 13, 9, 1, …]'
    stoker predict digits --input pixels=@digits.npy -o json
    stoker predict digits --json '{"pixels": [[0, 0, 5, 13, 9, 1, …]]}'
    stoker predict minilm --text "a cat" --text "a kitten"
    """,
)
@click.argument("name", shell_complete=complete_endpoint)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="[NAME=]VALUE",
    help="An input as JSON, or @FILE.npy, @FILE.json, @- (standard input). NAME may be left out when there is one.",
)
@click.option(
    "--json", "request", metavar="JSON|@FILE|@-", help="Inputs by name, or a whole Open Inference Protocol request."
)
@click.option("--text", "texts", multiple=True, help="A text to embed; several are compared with the first.")
@output_option
@project_option
@click.pass_obj
def command(
    session: Session,
    name: str,
    inputs: tuple[str, ...],
    request: str | None,
    texts: tuple[str, ...],
    output: str,
    project: str,
) -> None:
    """Send a request to an endpoint and print the outputs."""
    given = sum((bool(inputs), request is not None, bool(texts)))
    if given == 0 and not sys.stdin.isatty():
        request, given = "@-", 1
    if given != 1:
        raise click.UsageError("say what to send with one of --input, --json or --text")
    data = session.data(project)
    if texts:
        vectors = data.embed(name, list(texts))
        show({"embeddings": vectors}, output, lambda: _vectors(texts, vectors))
        return
    from stoker.client.tensors import read_answer

    body = content(request) if request is not None else b""
    by_name = _by_name(body)
    json_bytes: int | None = None
    if request is None or by_name is not None:
        body, json_bytes = _tensors(inputs, by_name or {}, data.metadata(name))
    answer = read_answer(data.infer(name, body, json_bytes=json_bytes))
    show(answer, output, lambda: _outputs(answer))


def _by_name(body: bytes) -> dict[str, Any] | None:
    """Return `{"pixels": [[…]]}` as it stands; None for a whole request, and for what the server is to refuse."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return value if isinstance(value, dict) and "inputs" not in value else None


def _tensors(inputs: tuple[str, ...], by_name: dict[str, Any], metadata: ModelMetadata) -> tuple[bytes, int | None]:
    """Return the request made of `--input`s, or of values by name, as the endpoint's signature wants them."""
    from stoker.client.tensors import as_array, infer_body

    specs = {spec.name: spec for spec in metadata.inputs}
    found: list[tuple[str, Array]] = []
    for text in inputs:
        spec, value = _named(text, specs)
        found.append((spec.name, as_array(_value(value, spec), spec)))
    for name, value in by_name.items():
        if name not in specs:
            raise InvalidInput(f"there is no input {name!r}; it takes {_listed(specs)}", field=name)
        found.append((name, as_array(value, specs[name])))
    return infer_body(found)


def _named(text: str, specs: dict[str, TensorSpec]) -> tuple[TensorSpec, str]:
    """Return the input that is meant and what is to be sent; without a name the only one is."""
    name, equals, value = text.partition("=")
    if equals and name in specs:
        return specs[name], value
    if equals and not text.startswith(("[", "{", "@", '"')):
        raise InvalidInput(f"there is no input {name!r}; it takes {_listed(specs)}", field=name)
    if len(specs) != 1:
        raise InvalidInput(f"say which input with NAME=…; it takes {_listed(specs)}")
    return next(iter(specs.values())), text


def _listed(specs: dict[str, TensorSpec]) -> str:
    listed = ", ".join(f"{one.name} {one.datatype}{list(one.shape)}" for one in specs.values())
    return listed or "no named inputs (is it a chat endpoint? use `stoker chat`)"


def _value(text: str, spec: TensorSpec) -> Any:
    from stoker.client.tensors import load_npy

    if text.startswith("@") and text.endswith(".npy"):
        return load_npy(text[1:])
    try:
        return msgspec.json.decode(content(text))
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise InvalidInput(f"{spec.name}: neither JSON nor @FILE: {wrong}", field=spec.name) from wrong


def _outputs(answer: "InferAnswer") -> str:
    import numpy as np

    blocks = []
    for one in answer.outputs:
        head = f"{click.style(one.name, bold=True)} {click.style(f'{one.datatype}{list(one.shape)}', dim=True)}"
        blocks.append(
            head
            + "\n"
            + np.array2string(one.array(), threshold=200, precision=6, suppress_small=True, max_line_width=110)
        )
    return "\n".join(blocks)


def _vectors(texts: tuple[str, ...], vectors: list[list[float]]) -> str:
    lines = []
    for text, vector in zip(texts, vectors, strict=True):
        start = ", ".join(f"{value:.4f}" for value in vector[:6])
        alike = f"  {_cosine(vectors[0], vector):.3f} like the first" if len(vectors) > 1 else ""
        short = text if len(text) <= 40 else text[:39] + "…"
        note = click.style(f"{len(vector)} values [{start}, …]{alike}", dim=True)
        lines.append(f"{click.style(short, bold=True)}  {note}")
    return "\n".join(lines)


def _cosine(one: list[float], other: list[float]) -> float:
    product = sum(left * right for left, right in zip(one, other, strict=True))
    length = (sum(value * value for value in one) * sum(value * value for value in other)) ** 0.5
    return product / length if length else 0.0
