"""That nothing can be bent unseen: rows or checkpoints edited, deleted, put elsewhere, added, cut off at an end."""

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.audit import chain, images
from stoker.core.audit.verify import verify
from stoker.protocol import signing
from stoker.types.audit import Act, AuditVerdict, Checkpoint, ResourceChange, Row

KEY = ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32)
STRANGER = ed25519.Ed25519PrivateKey.from_private_bytes(b"s" * 32)
MANIPULATIONS = 10_000


@functools.cache
def is_signed(made: Checkpoint) -> bool:
    return signing.is_signed(chain.signed_bytes(made), bytes.fromhex(made.signature), KEY.public_key())


def sign(made: Checkpoint, key: ed25519.Ed25519PrivateKey = KEY) -> Checkpoint:
    made = msgspec.structs.replace(made, signature="")
    return msgspec.structs.replace(made, signature=signing.sign_bytes(chain.signed_bytes(made), key).hex())


@dataclass
class Audit:
    """Rows, the checkpoints that are kept with them, and the file of checkpoints."""

    rows: list[Row] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    filed: bytes = b""

    def add(self, act: Act) -> None:
        last = self.rows[-1] if self.rows else None
        self.rows.append(
            chain.row(act, 1, chain.ROOT) if last is None else chain.row(act, last.sequence + 1, last.hash)
        )

    def close(self, kind: Any = "checkpoint", upto: int = -1) -> None:
        row = self.rows[upto]
        previous = chain.checkpoint_of(self.kept[-1]) if self.kept else None
        made = Checkpoint(
            number=previous.number + 1 if previous else 1,
            kind=kind,
            sequence=row.sequence,
            hash=row.hash,
            at_us=row.at_us + 1,
            previous=chain.digest(self.kept[-1]) if self.kept else "",
            key="f",
        )
        self.kept.append(chain.line(sign(made)))
        self.file()

    def file(self) -> None:
        self.filed = "".join(f"{line}\n" for line in self.kept).encode()

    def drop(self, upto: int) -> None:
        """Let the rows up to one go, as control does."""
        self.close("root", upto - self.rows[0].sequence)
        root = self.kept[-1]
        self.rows = [row for row in self.rows if row.sequence > upto]
        self.kept = [root]
        self.close()

    def copy(self) -> "Audit":
        return Audit(list(self.rows), list(self.kept), self.filed)

    def verdict(self, witness: bytes = b"") -> AuditVerdict:
        return verify(self.rows, self.kept, self.filed, is_signed, witness=witness)


def act(number: int) -> Act:
    change = ResourceChange(f"endpoint default/e{number % 3}", "update", ())
    return Act(1_000 + number, f"key{number % 4}", "127.0.0.1", f"r{number}", "PUT /x", "done", changes=(change,))


def closed(rows: int = 12) -> Audit:
    audit = Audit()
    for number in range(rows):
        audit.add(act(number))
        if number % 3 == 2:
            audit.close()
    if rows % 3:
        audit.close()
    return audit


def rechained(rows: Sequence[Row], start: int) -> list[Row]:
    """Make every hash and every column anew from a row on, as who knows how it is done would."""
    made = list(rows[:start])
    for row in rows[start:]:
        before = made[-1].hash if made else chain.ROOT
        made.append(msgspec.structs.replace(row, hash=chain.next_hash(before, row.event)))
    return made


def edited(draw: random.Random, value: Any) -> Any:
    if isinstance(value, int):
        return value + draw.choice((-1, 1, 1_000))
    at = draw.randrange(len(value) + 1)
    if not value or draw.random() < 0.3:
        return value[:at] + draw.choice(("0", "f", " ", "\n", "é")) + value[at:]
    at = min(at, len(value) - 1)
    other = draw.choice([letter for letter in "0a9f} " if letter != value[at]])
    return value[:at] + (other if draw.random() < 0.6 else "") + value[at + 1 :]


def edit_column(draw: random.Random, audit: Audit) -> None:
    at = draw.randrange(len(audit.rows))
    column = draw.choice(Row.__struct_fields__)
    row = audit.rows[at]
    audit.rows[at] = msgspec.structs.replace(row, **{column: edited(draw, getattr(row, column))})
    if draw.random() < 0.3:
        audit.rows.sort(key=lambda each: each.sequence)


def edit_event_and_every_hash(draw: random.Random, audit: Audit) -> None:
    at = draw.randrange(len(audit.rows))
    row = audit.rows[at]
    event = chain.event_of(row)
    wrong = {"actor": "mallory", "at_us": 5, "origin": "10.0.0.1", "outcome": "read", "changes": (), "because": "x"}
    name = draw.choice(list(wrong))
    forged = msgspec.structs.replace(event, **{name: wrong[name]})
    made = chain.row(Act(**{k: getattr(forged, k) for k in Act.__struct_fields__}), row.sequence, chain.ROOT)
    audit.rows[at] = made
    audit.rows = rechained(audit.rows, at)


def delete(draw: random.Random, audit: Audit) -> None:
    at = draw.randrange(len(audit.rows))
    del audit.rows[at : at + draw.randint(1, 3)]


def delete_and_close_the_gap(draw: random.Random, audit: Audit) -> None:
    at = draw.randrange(len(audit.rows))
    rows = audit.rows[:at] + audit.rows[at + 1 :]
    made: list[Row] = []
    for number, row in enumerate(rows, 1):
        event = chain.event_of(row)
        acted = Act(**{name: getattr(event, name) for name in Act.__struct_fields__})
        made.append(chain.row(acted, number, made[-1].hash if made else chain.ROOT))
    audit.rows = made


def swap(draw: random.Random, audit: Audit) -> None:
    one, other = draw.sample(range(len(audit.rows)), 2)
    first, second = audit.rows[one], audit.rows[other]
    if draw.random() < 0.5:  # each in the other's place, under the place's number
        first, second = (
            msgspec.structs.replace(first, sequence=second.sequence),
            msgspec.structs.replace(second, sequence=first.sequence),
        )
    audit.rows[one], audit.rows[other] = second, first


def insert(draw: random.Random, audit: Audit) -> None:
    at = draw.randrange(len(audit.rows))
    before = audit.rows[at - 1] if at else None
    row = chain.row(act(99), at + 1, before.hash if before else chain.ROOT)
    audit.rows.insert(at, row)
    if draw.random() < 0.5:
        audit.rows = rechained(audit.rows, at)


def truncate(draw: random.Random, audit: Audit) -> None:
    audit.rows = audit.rows[: draw.randrange(len(audit.rows))]


def behead(draw: random.Random, audit: Audit) -> None:
    audit.rows = audit.rows[draw.randrange(1, len(audit.rows)) :]


def renumber(draw: random.Random, audit: Audit) -> None:
    at, by = draw.randrange(len(audit.rows)), draw.choice((-2, -1, 1, 7))
    audit.rows[at:] = [msgspec.structs.replace(row, sequence=row.sequence + by) for row in audit.rows[at:]]


def edit_file(draw: random.Random, audit: Audit) -> None:
    at = draw.randrange(len(audit.filed))
    kind = draw.random()
    if kind < 0.4:
        audit.filed = audit.filed[:at] + bytes([audit.filed[at] ^ (1 << draw.randrange(8))]) + audit.filed[at + 1 :]
    elif kind < 0.6:
        audit.filed = audit.filed[:at]
    elif kind < 0.8:
        audit.filed = audit.filed[:at] + draw.choice((b" ", b"\n", b"0")) + audit.filed[at:]
    else:
        audit.filed = audit.filed[:at] + audit.filed[at + 1 :]


def edit_checkpoints_in_both_places(draw: random.Random, audit: Audit) -> None:
    at = draw.randrange(len(audit.kept))
    kind = draw.random()
    made = chain.checkpoint_of(audit.kept[at])
    assert made is not None
    if kind < 0.4:
        column = draw.choice([name for name in Checkpoint.__struct_fields__ if name != "kind"])
        audit.kept[at] = chain.line(msgspec.structs.replace(made, **{column: edited(draw, getattr(made, column))}))
    elif kind < 0.6:
        audit.kept[at] = chain.line(sign(made, STRANGER))
    elif kind < 0.8 and at + 1 < len(audit.kept):
        del audit.kept[at]
    else:
        audit.kept.insert(at, audit.kept[draw.randrange(len(audit.kept))])
    audit.file()


def cut_kept_checkpoints(draw: random.Random, audit: Audit) -> None:
    audit.kept = audit.kept[: draw.randrange(len(audit.kept))]


def cut_rows_and_kept_checkpoints(draw: random.Random, audit: Audit) -> None:
    """Put the database back to an earlier state, whole in itself."""
    count = draw.randrange(len(audit.kept))
    audit.kept = audit.kept[:count]
    end = chain.checkpoint_of(audit.kept[-1]) if count else None
    audit.rows = [row for row in audit.rows if end is not None and row.sequence <= end.sequence]


WAYS: tuple[Callable[[random.Random, Audit], None], ...] = (
    edit_column, edit_event_and_every_hash, delete, delete_and_close_the_gap, swap, insert, truncate, behead, renumber,
    edit_file, edit_checkpoints_in_both_places, cut_kept_checkpoints, cut_rows_and_kept_checkpoints,
)  # fmt: skip


@pytest.mark.parametrize("base", ["whole", "after old rows went"])
def test_finds_every_one_of_ten_thousand_random_manipulations(base: str) -> None:
    audit = closed()
    if base != "whole":
        audit.drop(6)
    assert audit.verdict().problems == ()
    same = (audit.rows, audit.kept, audit.filed)
    tried = 0
    seed = 0
    while tried < MANIPULATIONS // 2:
        seed += 1
        draw = random.Random(seed)
        bent = audit.copy()
        way = draw.choice(WAYS)
        way(draw, bent)
        if (bent.rows, bent.kept, bent.filed) == same:
            continue
        tried += 1
        assert bent.verdict().problems, f"{way.__name__} with seed {seed} was not found"


def test_says_how_far_it_is_closed_and_what_after_that_could_go_unseen() -> None:
    audit = closed()
    audit.add(act(50))
    audit.add(act(51))
    found = audit.verdict()
    assert (found.problems, found.last, found.sealed) == ((), 14, 12)
    audit.rows.pop()
    assert audit.verdict().problems == ()  # as the pages say: the window
    audit.rows = audit.rows[:11]
    assert audit.verdict().problems == ("rows 12 to 12 are missing at the end",)


def test_a_copy_elsewhere_tells_of_everything_put_back_together_to_an_earlier_state() -> None:
    audit = closed()
    copy = audit.filed
    audit.rows, audit.kept = audit.rows[:6], audit.kept[:2]
    audit.file()
    assert audit.verdict().problems == ()  # as the pages say
    assert audit.verdict(copy).problems == ("rows 7 to 12 are missing at the end, says the copy",)
    later = closed()
    later.drop(6)
    assert later.verdict(closed().filed + later.filed).problems == ()


def test_rows_may_go_only_up_to_a_signed_root() -> None:
    audit = closed()
    audit.drop(6)
    found = audit.verdict()
    assert (found.problems, found.first, found.last) == ((), 7, 12)
    gone = closed()
    gone.rows, gone.kept = gone.rows[6:], gone.kept[2:]
    gone.file()
    assert "checkpoint 3 is the first that is there, and was not" in gone.verdict().problems


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
        lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text("ab", min_size=1), inside, max_size=3),
        max_leaves=8,
    ),
    st.integers(0, 3),
)
def test_a_change_is_told_exactly_when_there_is_one(value: Any, number: int) -> None:
    text = msgspec.json.encode({"spec": value}).decode()
    image = {"resource": text, "number": number}
    assert images.change("x", image, dict(image)) is None
    moved = images.change("x", image, {**image, "number": number + 1})
    assert moved is not None
    assert [(each.field, each.before, each.after) for each in moved.fields] == [("number", number, number + 1)]


def test_what_opens_a_door_is_hidden_before_and_after_and_its_change_is_told() -> None:
    secret, key = "hunter2-Swordfish9", "sk-abcdefghijklmnopqrstuvwx"
    before = {"resource": {"spec": {"env": {"TOKEN": secret}, "url": "https://u:pw@hooks.example/T0/B0/xyz?k=1"}}}
    after = {"resource": {"spec": {"env": {"TOKEN": key}, "url": "https://hooks.example/T1", "note": f"use {key}"}}}
    told = images.change(
        "e", *({"resource": msgspec.json.encode(each["resource"]).decode()} for each in (before, after))
    )
    assert told is not None
    text = chain.canonical(told).decode()
    for word in (secret, key, "pw@", "xyz", "T1"):
        assert word not in text
    assert [each.field for each in told.fields] == [
        "resource.spec.env.TOKEN",
        "resource.spec.url",
        "resource.spec.note",
    ]
    assert told.fields[1].after == f"https://hooks.example/{images.HIDDEN}"


def test_a_change_of_many_fields_is_cut_and_the_rest_stands_by_its_digest() -> None:
    many = {"manifest": msgspec.json.encode({f"f{at}": at for at in range(images.FIELDS_MAX + 50)}).decode()}
    told = images.change("v", None, many)
    assert told is not None
    assert (len(told.fields), told.more, len(told.sha256)) == (images.FIELDS_MAX, 50, 64)
