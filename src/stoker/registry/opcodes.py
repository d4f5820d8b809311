"""Whether a pickle rebuilds plain data only: every opcode is followed to the end, and nothing is loaded.

What a pickle may name is a list of exact names (weights of PyTorch and NumPy arrays); everything else that it could
import or call is a reason against it. The machine below keeps of each value only what decides that: a text, a name, or
neither. A name that is put together while it runs has no text here and is refused.
"""

import io
import pickletools
from typing import IO, Any, Final, NamedTuple, cast

from stoker.registry.pickles import HEAD_BYTES, pickle_reason

OPCODES_MAX: Final = 5_000_000
PICKLES_MAX: Final = 1_000  # in one file: older PyTorch writes five
ARGUMENT_BYTES_MAX: Final = 256 * 2**20
LINE_BYTES_MAX: Final = 64 * 2**10

_STORAGES: Final = ("Float", "Double", "Half", "BFloat16", "Byte", "Char", "Short", "Int", "Long", "Bool")
ALLOWED: Final = frozenset(
    {
        "_codecs.encode",  # how protocol 2 writes bytes
        "builtins.bytearray",
        "builtins.complex",
        "builtins.set",
        "collections.OrderedDict",
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.core.numeric._frombuffer",
        "numpy._core.numeric._frombuffer",
        "numpy.dtype",
        "numpy.ndarray",
        "torch.Size",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor_v2",
        "torch.storage.UntypedStorage",
        *(f"torch.{kind}Storage" for kind in _STORAGES),
        "__builtin__.bytearray",
        "__builtin__.set",
    }
)


class _Name(NamedTuple):
    """A thing that the pickle imported, `module.attribute`."""

    dotted: str


class _Mark(NamedTuple):
    """The mark on the stack."""


_MARK: Final = _Mark()
_Item = str | _Name | _Mark | None


class _Against(Exception):
    """Why the pickle is not plain."""


class _Reader:
    """The file as `genops` reads it, with a maximum for everything that the file says the length of."""

    def __init__(self, file: "io.BufferedReader[Any]") -> None:
        self._file = file

    def read(self, count: int) -> bytes:
        """Return `count` bytes, or what is left."""
        if count > ARGUMENT_BYTES_MAX:
            raise _Against(f"it has a value of {count} bytes in it")
        return self._file.read(count)

    def readline(self) -> bytes:
        """Return a line of at most `LINE_BYTES_MAX`."""
        return self._file.readline(LINE_BYTES_MAX)


def reason_against(file: IO[bytes]) -> str:
    """Return why the pickles that `file` begins with are more than plain data, "" when they are not.

    It reads as far as the pickles go; what lies behind the last (raw weights) is not looked at.
    """
    stream = io.BufferedReader(cast(io.RawIOBase, file), HEAD_BYTES)
    try:
        for _ in range(PICKLES_MAX):
            _follow(stream)
            if not pickle_reason(stream.peek(HEAD_BYTES)[:HEAD_BYTES]):
                return ""
    except _Against as against:
        return str(against)
    except Exception as error:
        # Python's reader of opcodes raises whatever the bytes make it; a loader would have run what came before.
        return f"it is damaged ({str(error)[:200]})"
    finally:
        stream.detach()
    return f"it holds more than {PICKLES_MAX} pickles"


def _follow(stream: "io.BufferedReader[Any]") -> None:
    """Follow one pickle to its end. Raises _Against."""
    machine = _Machine()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], _Reader(stream)))):
        if count >= OPCODES_MAX:
            raise _Against(f"it has more than {OPCODES_MAX} opcodes")
        machine.step(opcode, argument)


class _Machine:
    """The stack and memo of a pickle while it runs, as far as they decide what is called."""

    def __init__(self) -> None:
        self._stack: list[_Item] = []
        self._memo: dict[int, _Item] = {}

    def step(self, opcode: pickletools.OpcodeInfo, argument: object) -> None:
        """Move on by one opcode. Raises _Against."""
        match opcode.name:
            case "GLOBAL":
                self._stack.append(_allowed(".".join(str(argument).split(" ", 1))))
            case "STACK_GLOBAL":
                attribute, module = self._pop(), self._pop()
                if not isinstance(module, str) or not isinstance(attribute, str):
                    raise _Against("it puts together what it calls while it is loaded")
                self._stack.append(_allowed(f"{module}.{attribute}"))
            case "INST":
                _allowed(".".join(str(argument).split(" ", 1)))
                self._pop_mark()
                self._stack.append(None)
            case "OBJ":
                items = self._pop_mark()
                _called(items[0] if items else None)
                self._stack.append(None)
            case "REDUCE" | "NEWOBJ" | "NEWOBJ_EX":
                for _ in range(2 if opcode.name == "NEWOBJ_EX" else 1):
                    self._pop()
                _called(self._pop())
                self._stack.append(None)
            case "EXT1" | "EXT2" | "EXT4":
                raise _Against("it calls something by a number of the extension registry")
            case _:
                self._change(opcode, argument)

    def _change(self, opcode: pickletools.OpcodeInfo, argument: object) -> None:
        """Move on by an opcode that changes what is on the stack, or remembers it."""
        match opcode.name:
            case "BUILD" | "APPEND" | "SETITEM":
                for _ in range(2 if opcode.name == "SETITEM" else 1):
                    self._pop()
                self._changed()
            case "APPENDS" | "SETITEMS" | "ADDITEMS":
                self._pop_mark()
                self._changed()
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[int(str(argument))] = self._top()
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._top()
            case "GET" | "BINGET" | "LONG_BINGET":
                self._stack.append(self._memo.get(int(str(argument))))
            case "DUP":
                self._stack.append(self._top())
            case "POP" if self._stack and self._stack[-1] is _MARK:
                self._stack.pop()
            case _:
                self._plain(opcode, argument)

    def _plain(self, opcode: pickletools.OpcodeInfo, argument: object) -> None:
        """Move values about as the opcode says of itself: none of these calls anything."""
        before = list(opcode.stack_before)
        if pickletools.markobject in before:
            self._pop_mark()
            before = before[: before.index(pickletools.markobject)]
        for _ in before:
            self._pop()
        for made in opcode.stack_after:
            if made is pickletools.markobject:
                self._stack.append(_MARK)
            else:
                self._stack.append(argument if isinstance(argument, str) else None)

    def _changed(self) -> None:
        if isinstance(self._top(), _Name):
            raise _Against("it changes what it has imported")

    def _top(self) -> _Item:
        if not self._stack:
            raise _Against("it is damaged (nothing is on its stack)")
        return self._stack[-1]

    def _pop(self) -> _Item:
        item = self._top()
        self._stack.pop()
        return item

    def _pop_mark(self) -> list[_Item]:
        items: list[_Item] = []
        while (item := self._pop()) is not _MARK:
            items.append(item)
        return items[::-1]


def _allowed(dotted: str) -> _Name:
    if dotted not in ALLOWED:
        raise _Against(f"it imports {dotted[:200]}")
    return _Name(dotted)


def _called(item: _Item) -> None:
    if not isinstance(item, _Name):
        raise _Against("it calls something that it did not import by name")
