"""Message classes out of `.proto` text, at import, without generated code.

The part of proto3 that the protocols here use: messages (nested), enums, maps, one oneof a message, services with
unary and streaming methods. Everything lies in a pool of its own: a client library in the same process may bring the
same names.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError, Message

__all__ = ["DecodeError", "File", "Message", "Method", "from_json", "load"]

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS: Final[dict[str, Any]] = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}
_TOKEN: Final = re.compile(r"[\w.]+|[{}()=;<>,]")
_COMMENT: Final = re.compile(r"//[^\n]*")


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a service. `path` is what its requests name; both types are message classes."""

    path: str
    request: type[Message]
    response: type[Message]


@dataclass(frozen=True, slots=True)
class File:
    """What one text defines.

    messages: classes by their names without the package (`ModelInferRequest.InferInputTensor`). methods: by
    `Service/Method`. services: full names. serialized: the FileDescriptorProto, for who asks by reflection.
    """

    name: str
    package: str
    serialized: bytes
    messages: dict[str, type[Message]]
    services: tuple[str, ...]
    methods: dict[str, Method]
    symbols: frozenset[str] = field(default=frozenset())


def load(name: str, text: str) -> File:
    """Return the classes of `text`, a proto3 file called `name`. Raises ValueError for what it cannot read."""
    proto = descriptor_pb2.FileDescriptorProto(name=name, syntax="proto3")
    _Reader(proto, iter(_TOKEN.findall(_COMMENT.sub("", text)))).read()
    pool = descriptor_pool.DescriptorPool()
    pool.Add(proto)
    names = list(_message_names(proto.message_type, ""))
    messages = {each: _class_of(pool, f"{proto.package}.{each}") for each in names}
    methods = {
        f"{service.name}/{method.name}": Method(
            f"/{proto.package}.{service.name}/{method.name}",
            _class_of(pool, method.input_type.removeprefix(".")),
            _class_of(pool, method.output_type.removeprefix(".")),
        )
        for service in proto.service
        for method in service.method
    }
    services = tuple(f"{proto.package}.{service.name}" for service in proto.service)
    symbols = {f"{proto.package}.{each}" for each in (*names, *(enum.name for enum in proto.enum_type))}
    symbols |= {*services, *(method.path[1:].replace("/", ".") for method in methods.values())}
    return File(name, proto.package, proto.SerializeToString(), messages, services, methods, frozenset(symbols))


def from_json(kind: type[Message], value: dict[str, Any]) -> Message:
    """Return a message with what `value` has for its fields, by their names; anything else is left out."""
    return json_format.ParseDict(value, kind(), ignore_unknown_fields=True)


def _class_of(pool: descriptor_pool.DescriptorPool, name: str) -> type[Message]:
    found: type[Message] = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
    return found


def _message_names(messages: Any, scope: str) -> Iterator[str]:
    for message in messages:
        if not message.options.map_entry:
            yield scope + message.name
        yield from _message_names(message.nested_type, f"{scope}{message.name}.")


class _Reader:
    """Fills a FileDescriptorProto from tokens. Types by name are resolved at the end, from the innermost scope out."""

    def __init__(self, proto: Any, tokens: Iterator[str]) -> None:
        self._proto = proto
        self._next = tokens.__next__
        self._tokens = tokens
        self._kinds: dict[str, Any] = {}  # full name → TYPE_MESSAGE or TYPE_ENUM
        self._open: list[tuple[Any, str, str]] = []  # (field, scope, name as written)

    def read(self) -> None:
        for word in self._tokens:
            if word == "package":
                self._proto.package = self._next()
                self._expect(";")
            elif word == "message":
                self._message(self._proto.message_type.add(), f".{self._proto.package}")
            elif word == "enum":
                self._enum(self._proto.enum_type.add(), f".{self._proto.package}")
            elif word == "service":
                self._service(self._proto.service.add())
            else:
                raise ValueError(f"{word!r} begins nothing that is known here")
        for place, scope, name in self._open:
            self._resolve(place, scope, name)

    def _message(self, message: Any, scope: str) -> None:
        message.name = self._next()
        scope = f"{scope}.{message.name}"
        self._kinds[scope] = _Field.TYPE_MESSAGE
        self._expect("{")
        while (word := self._next()) != "}":
            if word == "message":
                self._message(message.nested_type.add(), scope)
            elif word == "enum":
                self._enum(message.enum_type.add(), scope)
            elif word == "oneof":
                message.oneof_decl.add(name=self._next())
                self._expect("{")
                while (word := self._next()) != "}":
                    self._field(message, scope, word).oneof_index = len(message.oneof_decl) - 1
            elif word == "map":
                self._map(message, scope)
            else:
                self._field(message, scope, word)

    def _field(self, message: Any, scope: str, word: str) -> Any:
        made = message.field.add(label=_Field.LABEL_OPTIONAL)
        if word == "repeated":
            made.label = _Field.LABEL_REPEATED
            word = self._next()
        self._type(made, scope, word)
        made.name = self._next()
        self._expect("=")
        made.number = int(self._next())
        self._expect(";")
        return made

    def _map(self, message: Any, scope: str) -> None:
        self._expect("<")
        key = self._next()
        self._expect(",")
        value = self._next()
        self._expect(">")
        made = message.field.add(label=_Field.LABEL_REPEATED, type=_Field.TYPE_MESSAGE, name=self._next())
        self._expect("=")
        made.number = int(self._next())
        self._expect(";")
        entry = message.nested_type.add(name="".join(part.capitalize() for part in made.name.split("_")) + "Entry")
        entry.options.map_entry = True
        made.type_name = f"{scope}.{entry.name}"
        for number, (name, kind) in enumerate((("key", key), ("value", value)), 1):
            self._type(entry.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL), scope, kind)

    def _type(self, place: Any, scope: str, name: str) -> None:
        if name in _SCALARS:
            place.type = _SCALARS[name]
        else:
            self._open.append((place, scope, name))

    def _resolve(self, place: Any, scope: str, name: str) -> None:
        while True:
            full = f"{scope}.{name}"
            if full in self._kinds:
                place.type_name, place.type = full, self._kinds[full]
                return
            if not scope:
                raise ValueError(f"the type {name} of {place.name} is not defined")
            scope = scope.rpartition(".")[0]

    def _enum(self, enum: Any, scope: str) -> None:
        enum.name = self._next()
        self._kinds[f"{scope}.{enum.name}"] = _Field.TYPE_ENUM
        self._expect("{")
        while (word := self._next()) != "}":
            self._expect("=")
            enum.value.add(name=word, number=int(self._next()))
            self._expect(";")

    def _service(self, service: Any) -> None:
        service.name = self._next()
        self._expect("{")
        while self._next() == "rpc":
            method = service.method.add(name=self._next())
            method.client_streaming, method.input_type = self._side()
            self._expect("returns")
            method.server_streaming, method.output_type = self._side()
            self._expect(";")

    def _side(self) -> tuple[bool, str]:
        self._expect("(")
        word = self._next()
        is_stream = word == "stream"
        name = self._next() if is_stream else word
        self._expect(")")
        return is_stream, f".{self._proto.package}.{name}"

    def _expect(self, token: str) -> None:
        found = self._next()
        if found != token:
            raise ValueError(f"{found!r} where {token!r} belongs")
