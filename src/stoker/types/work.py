"""What a longer piece of work says while it goes on, a line of JSON each: how far it is, and what stopped it."""

import msgspec


class Step(msgspec.Struct, frozen=True, tag="step"):
    """How far it is: `done` of `total`, both 0 where nobody knows."""

    stage: str
    done: float = 0.0
    total: float = 0.0


class Problem(msgspec.Struct, frozen=True, tag="problem"):
    """Why it stopped: the code and words of an error of types/errors.py."""

    code: str
    message: str
