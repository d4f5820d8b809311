"""Whether bytes are a Python pickle, whatever the file is called. Loading a pickle runs what its author wrote.

Nothing is unpickled: opcodes are read with `pickletools`, bounded. Compressed pickles (joblib writes zlib, gzip, bz2,
xz and lz4) are looked into as far as their beginning.
"""

import bz2
import gzip
import io
import lzma
import pickletools
import re
import zlib
from collections.abc import Callable

HEAD_BYTES = 64 * 2**10
OPCODES_MAX = 20_000

# What lets a pickle call something; a pickle without any of these holds plain values only.
_CALLING = {"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD", "EXT1", "EXT2", "EXT4"}
# What calls at once; GLOBAL alone only imports.
_RUNNING = {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE"}
_DOTTED = re.compile(r"[A-Za-z_][\w.]* [A-Za-z_][\w.]*", re.ASCII)
_OBJECT_TYPE = re.compile(rb"['\"][|<>=]?O['\"]")


def pickle_reason(head: bytes, *, depth: int = 2) -> str:
    """Return why the file that begins with `head` is a pickle or holds one, "" when it is not.

    `head` is the first `HEAD_BYTES` of the file, or all of a shorter one.
    """
    if _is_binary_pickle(head):
        return "it is a Python pickle"
    if head.startswith(b"\x93NUMPY"):
        return "it is a NumPy array of Python objects, stored as a pickle" if _has_objects(head) else ""
    if head.startswith(b"\x04\x22\x4d\x18") and b"\x80" in head[:64]:
        return "it is an lz4-compressed Python pickle"
    if depth and (inner := _decompressed(head)):
        reason = pickle_reason(inner, depth=depth - 1)
        return f"compressed inside, {reason}" if reason else ""
    if _is_text_pickle(head):
        return "it is a Python pickle (text protocol)"
    return ""


def _is_binary_pickle(head: bytes) -> bool:
    """Protocols 2 to 5 begin with PROTO; the opcode after it must be one (a random 0x80 0x02 is not enough)."""
    if len(head) < 3 or head[0] != 0x80 or not 2 <= head[1] <= 5:
        return False
    count = 0
    try:
        for _ in pickletools.genops(head):
            count += 1
            if count >= OPCODES_MAX:
                return True
    except Exception:
        # Cut by HEAD_BYTES, or not a pickle after all: three opcodes in a row are no accident.
        return count >= 3 or len(head) <= 16
    return True


def _is_text_pickle(head: bytes) -> bool:
    """Protocols 0 and 1 have no mark; a file is one when its opcodes run on a stack to the end and call something."""
    calls = called = False
    count = 0
    stack: list[bool] = []  # True for a mark
    try:
        for opcode, argument, _ in pickletools.genops(head):
            count += 1
            if opcode.name in ("GLOBAL", "INST") and not _DOTTED.fullmatch(str(argument)):
                return False
            if not _apply(opcode, stack):
                return False
            calls = calls or opcode.name in _CALLING
            called = called or opcode.name in _RUNNING
            if count >= OPCODES_MAX:
                break
    except Exception:
        # What came before a bad opcode has run when a loader finds it; a pickle longer than the head breaks off too.
        return called or (calls and count >= 8 and len(head) >= HEAD_BYTES)
    return calls


def _apply(opcode: pickletools.OpcodeInfo, stack: list[bool]) -> bool:
    """Move `stack` on as the opcode would; False when it could not run, so that the bytes are no pickle."""
    needs = opcode.stack_before
    if pickletools.stackslice in needs:
        if True not in stack:
            return False
        while not stack.pop():
            pass
        needs = [item for item in needs if item not in (pickletools.stackslice, pickletools.markobject)]
    if len(needs) > len(stack):
        return False
    if needs:
        del stack[-len(needs) :]
    stack.extend(item is pickletools.markobject for item in opcode.stack_after)
    return True


def _has_objects(head: bytes) -> bool:
    length = int.from_bytes(head[8:10], "little") if head[6:7] == b"\x01" else int.from_bytes(head[8:12], "little")
    return _OBJECT_TYPE.search(head[10 : 12 + length]) is not None


def _decompressed(head: bytes) -> bytes:
    """Return the beginning of what `head` is a compression of, b"" when it is none."""
    openers: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
        (b"\x1f\x8b", lambda data: gzip.GzipFile(fileobj=io.BytesIO(data)).read1(HEAD_BYTES)),
        (b"BZh", lambda data: bz2.BZ2Decompressor().decompress(data, HEAD_BYTES)),
        (b"\xfd7zXZ", lambda data: lzma.LZMADecompressor(memlimit=2**27).decompress(data, HEAD_BYTES)),
        (b"\x5d\x00\x00", lambda data: lzma.LZMADecompressor(memlimit=2**27).decompress(data, HEAD_BYTES)),
        (b"ZF", lambda data: zlib.decompressobj().decompress(data[23:], HEAD_BYTES)),  # joblib's old own format
    )
    zlib_marks = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
    for mark, opener in (*openers, *((mark, _inflate) for mark in zlib_marks)):
        if head.startswith(mark):
            try:
                return opener(head)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
                return b""
    return b""


def _inflate(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, HEAD_BYTES)
