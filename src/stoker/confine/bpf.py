"""A seccomp filter as a program of classic BPF, made from rules: which system calls fail, with which error.

    is it this machine's kind of call?  no ─► ENOSYS
    for each rule: its number, and its tests of arguments  ─► its error
    ─► allow

The kernel runs it once for each number whose rules look at no argument and remembers the answer (Linux 5.11), so that
the length of the table costs a usual call nothing. See seccomp(2), linux/filter.h.
"""

import errno
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

LOAD_WORD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
JUMP_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
JUMP_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
RETURN: Final = 0x06  # BPF_RET | BPF_K
ALLOW: Final = 0x7FFF0000
ERROR: Final = 0x00050000  # with the number of the error in its lower half
NUMBER_AT, ARCH_AT, ARGUMENTS_AT = 0, 4, 16  # struct seccomp_data
ARCHES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
X32_BIT: Final = 0x40000000  # x86_64: a second numbering of the same calls
INSTRUCTIONS_MAX: Final = 4096  # the kernel's


class Instruction(NamedTuple):
    """One step: jumps are relative to the next one."""

    code: int
    if_true: int
    if_false: int
    value: int


@dataclass(frozen=True, slots=True)
class Test:
    """Of one argument (its lower 32 bits, which is all that an int or a set of flags has): `& mask` is one of `values`.

    `is_in` false: it is none of them.
    """

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    is_in: bool = True


@dataclass(frozen=True, slots=True)
class Rule:
    """The call of that name fails with `error` when all tests hold."""

    name: str
    error: int
    tests: tuple[Test, ...] = ()


def program(rules: Sequence[Rule], numbers: dict[str, int], machine: str) -> list[Instruction]:
    """Return the filter for `machine`; calls that `numbers` does not name do not exist there. Raises ValueError."""
    unsupported = Instruction(RETURN, 0, 0, ERROR | errno.ENOSYS)
    made = [Instruction(LOAD_WORD, 0, 0, ARCH_AT), Instruction(JUMP_EQUAL, 1, 0, ARCHES[machine]), unsupported]
    made.append(Instruction(LOAD_WORD, 0, 0, NUMBER_AT))
    if machine == "x86_64":
        made += [Instruction(JUMP_AT_LEAST, 0, 1, X32_BIT), unsupported]
    for rule in rules:
        if rule.name in numbers:
            made += _of_rule(rule, numbers[rule.name])
    made.append(Instruction(RETURN, 0, 0, ALLOW))
    if len(made) > INSTRUCTIONS_MAX:
        raise ValueError(f"{len(made)} instructions; the kernel takes {INSTRUCTIONS_MAX}")
    return made


def packed(made: Sequence[Instruction]) -> bytes:
    """Return the instructions as the kernel reads them."""
    return b"".join(struct.pack("=HBBI", *each) for each in made)


def _of_rule(rule: Rule, number: int) -> list[Instruction]:
    """Return the steps of one rule; whoever passes it has the number in the accumulator again."""
    body: list[Instruction] = []
    for test in reversed(rule.tests):
        body = _of_test(test, len(body) + 1) + body
    body.append(Instruction(RETURN, 0, 0, ERROR | rule.error))
    if rule.tests:
        body.append(Instruction(LOAD_WORD, 0, 0, NUMBER_AT))
    return [Instruction(JUMP_EQUAL, 0, len(body), number), *body]


def _of_test(test: Test, behind: int) -> list[Instruction]:
    """Return the steps of one test. `behind`: steps from its end to the one that loads the number again."""
    load = [Instruction(LOAD_WORD, 0, 0, ARGUMENTS_AT + 8 * test.argument)]
    if test.mask != 0xFFFFFFFF:
        load.append(Instruction(AND, 0, 0, test.mask))
    count = len(test.values)
    steps = []
    for at, value in enumerate(test.values):
        rest = count - at - 1  # comparisons behind this one
        if test.is_in:
            steps.append(Instruction(JUMP_EQUAL, rest, 0 if rest else behind, value))
        else:
            steps.append(Instruction(JUMP_EQUAL, rest + behind, 0, value))
    return load + steps
