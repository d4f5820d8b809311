"""Whether a stream that was cut may go on in another replica, so that its client gets every token exactly once.

Source: Dynamo's request migration sends the prompt and the tokens so far again and asks for so many fewer. A stream
moves only where what follows is what would have followed: one choice of plain text, decided by the model alone (greedy)
or by a seed. Everything else ends with an error event, unless the endpoint's owner says otherwise.
"""

from typing import Final, Literal

import msgspec

from stoker.types.resources import ResumeMode

# A stream that ran so long before its replica died is tried again in company; a younger one is a suspect like any
# other request and goes on alone first (gateway/fleet/trial.py gives company back after the same time).
PROVEN_S: Final = 0.5

Obstacle = Literal["", "never", "choices", "tools", "constrained", "logprobs", "echo", "sampled"]


class Asked(msgspec.Struct, frozen=True):
    """What of a request for text decides whether its answer can be continued.

    choices: prompts × n. has_tools: the model may call one. is_constrained: held to a schema or grammar.
    is_greedy: each token is the likeliest one. has_seed: or it is drawn from a sequence the client fixed.
    """

    choices: int = 1
    has_tools: bool = False
    is_constrained: bool = False
    has_logprobs: bool = False
    has_echo: bool = False
    is_greedy: bool = False
    has_seed: bool = False


def obstacle(asked: Asked, mode: ResumeMode) -> Obstacle:
    """Return what forbids that the answer to `asked` goes on elsewhere, "" for nothing.

    A tool call or constrained answer depends on how far a grammar has come, logprobs and echoes carry offsets: none of
    them is in the text so far. `best_effort` allows what is drawn at random without a seed, and nothing else.
    """
    if mode == "never":
        return "never"
    if asked.choices != 1:
        return "choices"
    if asked.has_tools:
        return "tools"
    if asked.is_constrained:
        return "constrained"
    if asked.has_logprobs:
        return "logprobs"
    if asked.has_echo:
        return "echo"
    if mode == "exact" and not asked.is_greedy and not asked.has_seed:
        return "sampled"
    return ""


def is_proven(streamed_s: float) -> bool:
    """Return whether a stream that ran for `streamed_s` before the death may go on beside others."""
    return streamed_s >= PROVEN_S


def tokens_left(tokens_max: int | None, so_far: int) -> int | None:
    """Return how many tokens a continuation may make; None for no limit, 0 when the answer was complete."""
    return None if tokens_max is None else max(tokens_max - so_far, 0)
