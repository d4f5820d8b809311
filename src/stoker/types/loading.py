"""How far a replica that starts is: what was measured of the starts before it, and what is seen of this one."""

from collections.abc import Mapping

import msgspec

Usual = tuple[tuple[str, float], ...]  # phases in their order with the seconds that each usually takes; (): no measure


class Seen(msgspec.Struct, frozen=True):
    """What is seen of a start. stage: as the replica says; "" while it does not; starts.ORDER while there is none yet.

    stage_s: seconds in that stage; of a process that does not answer, since its spawn. fraction: of the stage, 0–1, as
    the replica says. over: phases that it was in before, with their seconds. answers: its process does. is_ready: but
    for a last question.
    """

    stage: str = ""
    stage_s: float = 0.0
    fraction: float = 0.0
    over: Mapping[str, float] = {}
    answers: bool = False
    is_ready: bool = False


class Loading(msgspec.Struct, frozen=True):
    """How far a start is, for whom it is waited. Of a ready replica there is none.

    stage: the phase it is in, "" where that is not seen from here. ratio: done, in 0–1 and never 1; left_s: until it is
    ready; both None where nothing was measured. usual_s: what the whole start usually takes, 0: no measure. is_late:
    it takes longer than usual, so that nobody knows what is left.
    """

    stage: str = ""
    ratio: float | None = None
    left_s: float | None = None
    usual_s: float = 0.0
    is_late: bool = False


class Progress(msgspec.Struct, frozen=True):
    """How far a start is: `fraction` in 0–1, 0 where nobody knows; `words` say it: `loading 62 %, about 9 s`.

    left_s: until it is ready; None where nobody knows.
    """

    stage: str = ""
    fraction: float = 0.0
    left_s: float | None = None
    words: str = ""
