"""The filter does what its rules say, by an interpreter of its instructions; and the kernel takes it."""

import errno
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.confine import bpf, filters
from stoker.confine.bpf import ALLOW, ARCHES, ERROR, Instruction, Rule
from stoker.confine.filters import NUMBERS, Sockets

NAMES = ("a", "b", "c")
CALLS = {"a": 41, "b": 53, "c": 0}
WORDS = st.one_of(st.integers(0, 20), st.integers(0, 2**32 - 1))
TESTS = st.builds(
    bpf.Test,
    argument=st.integers(0, 5),
    values=st.lists(WORDS, min_size=1, max_size=4).map(tuple),
    mask=st.sampled_from((0xFFFFFFFF, 0xF, 0x7E020000)),
    is_in=st.booleans(),
)
RULES = st.lists(
    st.builds(
        Rule,
        name=st.sampled_from((*NAMES, "unknown")),
        error=st.integers(1, 133),
        tests=st.lists(TESTS, max_size=3).map(tuple),
    ),
    max_size=6,
)


def run(program: Sequence[Instruction], arch: int, number: int, arguments: Sequence[int]) -> int:
    """Return what the kernel would, instruction by instruction."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *arguments)
    value = at = 0
    while True:
        step = program[at]
        at += 1
        match step.code:
            case bpf.LOAD_WORD:
                assert step.value % 4 == 0
                (value,) = struct.unpack_from("=I", data, step.value)
            case bpf.AND:
                value &= step.value
            case bpf.JUMP_EQUAL:
                at += step.if_true if value == step.value else step.if_false
            case bpf.JUMP_AT_LEAST:
                at += step.if_true if value >= step.value else step.if_false
            case bpf.RETURN:
                return step.value
            case other:
                raise AssertionError(f"{other:#x} is no instruction of ours")


def said(rules: Sequence[Rule], name: str, arguments: Sequence[int]) -> int:
    """Return what the rules say in so many words: the first that holds."""
    for rule in rules:
        if rule.name == name and all(
            (arguments[test.argument] & 0xFFFFFFFF & test.mask in test.values) is test.is_in for test in rule.tests
        ):
            return ERROR | rule.error
    return ALLOW


@given(
    rules=RULES,
    name=st.sampled_from((*NAMES, "other")),
    arguments=st.lists(st.one_of(WORDS, st.integers(0, 2**64 - 1)), min_size=6, max_size=6),
    machine=st.sampled_from(tuple(ARCHES)),
)
def test_a_call_fails_as_the_first_rule_that_holds_says_and_goes_through_when_none_does(
    rules: list[Rule], name: str, arguments: list[int], machine: str
) -> None:
    program = bpf.program(rules, CALLS, machine)
    assert run(program, ARCHES[machine], CALLS.get(name, 99), arguments) == said(rules, name, arguments)


@given(rules=RULES, number=st.integers(0, 500), arch=st.integers(0, 2**32 - 1))
def test_calls_of_another_kind_of_machine_do_not_exist(rules: list[Rule], number: int, arch: int) -> None:
    program = bpf.program(rules, CALLS, "x86_64")
    if arch != ARCHES["x86_64"]:
        assert run(program, arch, number, [0] * 6) == ERROR | errno.ENOSYS
    assert run(program, ARCHES["x86_64"], number | bpf.X32_BIT, [0] * 6) == ERROR | errno.ENOSYS


@pytest.mark.parametrize("machine", tuple(ARCHES))
@pytest.mark.parametrize("allowed", [Sockets(), Sockets(tcp=True), Sockets(unix=True), Sockets("open")])
def test_every_rule_has_its_number_where_the_machine_has_the_call(machine: str, allowed: Sockets) -> None:
    numbers = NUMBERS[machine]
    missing = {rule.name for rule in filters.rules(allowed) if rule.name not in numbers}
    assert missing == (set() if machine == "x86_64" else {"iopl", "ioperm", "modify_ldt"})
    assert len(set(numbers.values())) == len(numbers)
    assert len(bpf.packed(bpf.program(filters.rules(allowed), numbers, machine))) // 8 <= bpf.INSTRUCTIONS_MAX


UNIX, INET, INET6, NETLINK, PACKET, ALG, VSOCK = 1, 2, 10, 16, 17, 38, 40
STREAM, DGRAM, RAW, SEQPACKET = 1, 2, 3, 5
CLOEXEC = 0o2000000
MPTCP = 262


@pytest.mark.parametrize(
    ("allowed", "call", "arguments", "goes"),
    [
        (Sockets(), "socket", (INET, STREAM), False),
        (Sockets(), "socket", (UNIX, STREAM), False),
        (Sockets(), "socketpair", (UNIX, STREAM | CLOEXEC), True),
        (Sockets(), "socketpair", (UNIX, SEQPACKET), True),
        (Sockets(), "socketpair", (UNIX, DGRAM), False),
        (Sockets(), "socketpair", (UNIX, RAW), False),
        (Sockets(unix=True), "socket", (UNIX, STREAM), True),
        (Sockets(unix=True), "socket", (INET, STREAM), False),
        (Sockets(tcp=True), "socket", (INET, STREAM | CLOEXEC), True),
        (Sockets(tcp=True), "socket", (INET6, STREAM, 6), True),
        (Sockets(tcp=True), "socket", (INET, DGRAM), False),
        (Sockets(tcp=True), "socket", (INET, STREAM, MPTCP), False),
        (Sockets(tcp=True), "socket", (UNIX, STREAM), False),
        (Sockets(tcp=True, unix=True), "socket", (UNIX, DGRAM), True),
        (Sockets(tcp=True), "sendto", (3, 0, 0, filters.MSG_FASTOPEN), False),
        (Sockets(tcp=True), "sendmsg", (3, 0, 0x4000), True),
        (Sockets("open"), "socket", (INET, DGRAM), True),
        (Sockets("open"), "socket", (NETLINK, RAW, 0), True),
        (Sockets("open"), "socket", (NETLINK, RAW, 9), False),
        (Sockets("open"), "socket", (PACKET, RAW), False),
        (Sockets("open"), "socket", (ALG, SEQPACKET), False),
        (Sockets("open"), "socket", (VSOCK, STREAM), False),
        (Sockets(), "clone", (0x003D0F00,), True),  # of a thread
        (Sockets(), "clone", (0x10000000 | 17,), False),
        (Sockets(), "prlimit64", (0,), True),
        (Sockets(), "prlimit64", (4711,), False),
        (Sockets(), "setpriority", (0, 0, 5), True),
        (Sockets(), "setpriority", (2, 0, 19), False),
        (Sockets(), "ioprio_set", (1, 0), True),
        (Sockets(), "ioprio_set", (1, 7), False),
        (Sockets(), "ptrace", (16, 1), False),
        (Sockets(), "ioctl", (0, 0x5412), False),
        (Sockets(), "ioctl", (0, 0x5401), True),
    ],
)
def test_what_may_be_asked_of_the_kernel(allowed: Sockets, call: str, arguments: tuple[int, ...], goes: bool) -> None:
    for machine, numbers in NUMBERS.items():
        program = bpf.program(filters.rules(allowed), numbers, machine)
        padded = (*arguments, *[0] * 6)[:6]
        assert (run(program, ARCHES[machine], numbers[call], padded) == ALLOW) is goes, machine
