"""YAML (and JSON) text as a tree of values that know their line; the only place that knows the YAML library.

The strict subset of YAML 1.2 that means the same to every reader. Refused, each with its line: duplicate keys, tags,
merge keys, non-finite numbers, and plain words that YAML 1.1 readers turn into something else (`on`, `12:30`, `0777`,
`1_000`). Read event by event without recursion, with written maxima, so that no document can exhaust the process.
"""

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

TEXT_BYTES_MAX = 2**20
DOCUMENTS_MAX = 256
NODES_MAX = 20_000  # an alias counts all that it stands for
DEPTH_MAX = 32
PROBLEMS_MAX = 100

Scalar = str | int | float | bool | None

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})")
_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)([eE][-+]?[0-9]{1,3})?")
_NUMBER_CHARACTERS_MAX = 40
# What YAML 1.1 reads as a boolean, an octal, hexadecimal or grouped number, a time of day, infinity.
_BOOLEAN_1_1 = re.compile(r"yes|no|on|off", re.IGNORECASE)
_NUMBER_1_1 = re.compile(r"[-+]?(0[0-9_]+|0[box][0-9a-fA-F_]+|[0-9]+(_[0-9]*)+(\.[0-9_]*)?|\.(inf|nan))", re.IGNORECASE)
_SEXAGESIMAL = re.compile(r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?")
# What JSON allows and YAML does not: tabs between tokens, and one character written as two escaped halves.
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\t', re.DOTALL)
_JSON_ESCAPE = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|\\.", re.DOTALL)
_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Fault(NamedTuple):
    """What is wrong with the text at `line` (from 1)."""

    line: int
    field: str
    message: str


class Leaf(NamedTuple):
    """A scalar."""

    line: int
    value: Scalar


class Branch(NamedTuple):
    """A mapping: key → (line of the key, value)."""

    line: int
    items: dict[str, "tuple[int, Tree]"]


class Row(NamedTuple):
    """A sequence."""

    line: int
    items: "list[Tree]"


Tree = Leaf | Branch | Row


class _Open:
    """A collection whose end has not come yet."""

    def __init__(self, line: int, anchor: str | None, field: str, is_map: bool) -> None:
        self.line = line
        self.anchor = anchor
        self.field = field
        self.is_map = is_map
        self.items: dict[str, tuple[int, Tree]] = {}
        self.rows: list[Tree] = []
        self.key: tuple[int, str] | None = None
        self.nodes = 1

    def child_field(self) -> str:
        """Return the path of the value that comes next."""
        if not self.is_map:
            return f"{self.field}[{len(self.rows)}]"
        name = self.key[1] if self.key else ""
        return f"{self.field}.{name}" if self.field else name


class _Stop(Exception):
    """Nothing after this fault can be read."""


def parse(text: str | bytes) -> tuple[list[Tree], list[Fault]]:
    """Return the documents of `text` and everything wrong with them. Empty documents are left out. Never raises."""
    reader = _Reader()
    try:
        for event in _events(text):
            reader.take(event)
    except _Stop:
        pass
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reader.fault((mark.line + 1) if mark else 1, "", f"not YAML: {error.problem or error.context}")
    except (yaml.YAMLError, ValueError) as error:
        reader.fault(1, "", f"not YAML: {error}")
    return reader.documents, reader.faults


def plain(tree: Tree) -> Any:
    """Return the tree as dicts, lists and scalars."""
    match tree:
        case Leaf():
            return tree.value
        case Row():
            return [plain(item) for item in tree.items]
        case Branch():
            return {key: plain(item) for key, (_, item) in tree.items.items()}


def to_text(documents: list[Any]) -> str:
    """Return plain values as YAML documents that `parse` reads back to the same values."""
    return yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False
    )


def _events(text: str | bytes) -> Iterator[Any]:
    if isinstance(text, bytes):
        text = _decoded(text)
    if len(text) > TEXT_BYTES_MAX:
        raise ValueError(f"the text is longer than {TEXT_BYTES_MAX} characters")
    if text.lstrip()[:1] in ("{", "["):
        text = _JSON_TOKEN.sub(_yaml_token, text)
    events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
    return events


def _yaml_token(token: re.Match[str]) -> str:
    if token[0] == "\t":
        return " "
    return _JSON_ESCAPE.sub(_yaml_escape, token[0])


def _yaml_escape(escape: re.Match[str]) -> str:
    if escape[1] is None:
        return escape[0]
    return f"\\U{0x10000 + ((int(escape[1], 16) & 0x3FF) << 10) + (int(escape[2], 16) & 0x3FF):08x}"


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        mark = yaml.Mark("manifest", error.start, raw[: error.start].count(b"\n"), 0, None, 0)
        raise yaml.MarkedYAMLError(problem="not UTF-8 text", problem_mark=mark) from error


class _Reader:
    """Builds trees of events; a machine with an explicit stack instead of recursion."""

    def __init__(self) -> None:
        self.documents: list[Tree] = []
        self.faults: list[Fault] = []
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Tree, int]] = {}
        self._nodes = 0

    def fault(self, line: int, field: str, message: str) -> None:
        """Remember a fault, up to the maximum."""
        self.faults.append(Fault(line, field, message))
        if len(self.faults) >= PROBLEMS_MAX:
            raise _Stop

    def take(self, event: Any) -> None:
        """Move on by one event."""
        line = event.start_mark.line + 1
        match event:
            case yaml.DocumentStartEvent():
                self._anchors.clear()
                if len(self.documents) >= DOCUMENTS_MAX:
                    self._stop(line, f"more than {DOCUMENTS_MAX} documents")
            case yaml.ScalarEvent():
                self._scalar(event, line)
            case yaml.AliasEvent():
                self._alias(event, line)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._begin(event, line)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._end()
            case _:
                pass

    def _stop(self, line: int, message: str) -> None:
        self.fault(line, self._field(), message)
        raise _Stop

    def _field(self) -> str:
        return self._stack[-1].child_field() if self._stack else ""

    def _count(self, line: int, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > NODES_MAX:
            self._stop(line, f"more than {NODES_MAX} values, aliases counted by what they stand for")

    def _begin(self, event: Any, line: int) -> None:
        is_map = isinstance(event, yaml.MappingStartEvent)
        if self._wants_key():
            self._stop(line, "a key must be plain text")
        if len(self._stack) >= DEPTH_MAX:
            self._stop(line, f"nested deeper than {DEPTH_MAX}")
        self._count(line, 1)
        self._refuse_tag(event.tag, line)
        self._stack.append(_Open(line, event.anchor, self._field(), is_map))

    def _end(self) -> None:
        done = self._stack.pop()
        tree: Tree = Branch(done.line, done.items) if done.is_map else Row(done.line, done.rows)
        self._place(tree, done.anchor, done.nodes)

    def _scalar(self, event: Any, line: int) -> None:
        text: str = event.value
        is_plain = event.implicit[0] and event.tag is None
        if event.tag is not None:
            self._refuse_tag(event.tag, line)
        if self._wants_key():
            self._key(text, line, is_plain)
            return
        self._count(line, 1)
        value: Scalar = text
        if is_plain:
            value, message = _resolve(text)
            if message:
                self.fault(line, self._field(), message)
        self._place(Leaf(line, value), event.anchor, 1)

    def _key(self, text: str, line: int, is_plain: bool) -> None:
        top = self._stack[-1]
        self._count(line, 1)
        top.key = (line, text)
        if is_plain and text == "<<":
            self._stop(line, "merge keys are not part of YAML 1.2; write the fields out")
        if is_plain and (message := _resolve(text)[1]):
            self.fault(line, self._field(), message)
        if text in top.items:
            self.fault(line, self._field(), f"given twice, first at line {top.items[text][0]}")

    def _alias(self, event: Any, line: int) -> None:
        if self._wants_key():
            self._stop(line, "a key must be plain text")
        known = self._anchors.get(event.anchor)
        if known is None:
            self._stop(line, f"*{event.anchor} refers to nothing before it, or to itself")
            return
        tree, nodes = known
        self._count(line, nodes)
        self._place(tree, None, nodes)

    def _place(self, tree: Tree, anchor: str | None, nodes: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = (tree, nodes)
        if not self._stack:
            if tree != Leaf(tree.line, None):
                self.documents.append(tree)
            return
        top = self._stack[-1]
        top.nodes += nodes
        if not top.is_map:
            top.rows.append(tree)
        elif top.key is not None:
            line, name = top.key
            top.items.setdefault(name, (line, tree))
            top.key = None

    def _wants_key(self) -> bool:
        return bool(self._stack) and self._stack[-1].is_map and self._stack[-1].key is None

    def _refuse_tag(self, tag: str | None, line: int) -> None:
        if tag not in (None, "!", "tag:yaml.org,2002:str"):
            self.fault(line, self._field(), f"the tag {tag} is refused: values are plain text, numbers, lists and maps")


def _resolve(text: str) -> tuple[Scalar, str]:
    """Return what a plain scalar means by YAML 1.2's core schema, and why it is refused ("" when it is not)."""
    if text in _WORDS:
        return _WORDS[text], ""
    if _INT.fullmatch(text):
        return int(text), ""
    if _BOOLEAN_1_1.fullmatch(text):
        return text, f'{text} is a boolean to some YAML readers and text to others; write true, false or "{text}"'
    if _NUMBER_1_1.fullmatch(text) or _SEXAGESIMAL.fullmatch(text):
        return text, f'{text} means different numbers to different YAML readers; write "{text}", or the plain number'
    if _FLOAT.fullmatch(text):
        if len(text) > _NUMBER_CHARACTERS_MAX or not math.isfinite(float(text)) or text.lstrip("+-").isdigit():
            return text, f"{text[:_NUMBER_CHARACTERS_MAX]} is too large a number"
        return float(text), ""
    return text, ""


class _Dumper(yaml.SafeDumper):
    """Quotes every text that some reader would take for something else."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    value, message = _resolve(text)
    style = '"' if message or value != text or text == "<<" else None
    if "\n" in text and style is None:
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
