"""What became of a sampled request that was sent once more, to two: the answers' times and how far they agree."""

import msgspec

NO_ANSWER = 0  # instead of a status: nobody answered


class Agreement(msgspec.Struct, frozen=True):
    """How far two answers agree.

    cosine: of all their numbers in order; None where they have none to compare.
    where: the first place where they differ, and what each says there; "" where they are equal.
    """

    equal: bool
    cosine: float | None = None
    where: str = ""


class Reply(msgspec.Struct, frozen=True):
    """What one of the two did. `took_s` is what the asker waited; tokens are those that the answer counts."""

    status: int
    took_s: float
    problem: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


class Outcome(msgspec.Struct, frozen=True, tag="outcome"):
    """One sample sent to both. `agreement` is None unless both answered 200."""

    id: str
    hidden: int  # pseudonyms in it: the original said something else there
    was: int  # the status of the original
    before: Reply
    after: Reply
    agreement: Agreement | None = None


class Summary(msgspec.Struct, frozen=True, tag="summary"):
    """Many outcomes in numbers. Times and tokens are [before, after]; `equal` is of those that both answered."""

    sent: int
    skipped: dict[str, int]  # why: how many
    statuses: dict[str, int]  # "200 → 503": how many
    p50_s: tuple[float, float]
    p99_s: tuple[float, float]
    answered: int
    equal: int
    cosine_min: float | None
    cosine_mean: float | None
    input_tokens: tuple[int, int] = (0, 0)
    output_tokens: tuple[int, int] = (0, 0)
    before: str = ""  # the revisions, where those were asked
    after: str = ""
