"""How long a replica's place is taken by each request: drawn, or from its tokens by a fitted line."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stoker.sim.arrivals import Arrivals


@dataclass(frozen=True, slots=True)
class Drawn:
    """Times drawn around a mean. `variation` is standard deviation by mean: 1 exponential, 0 constant, else gamma."""

    mean_s: float = 0.4
    variation: float = 1.0


@dataclass(frozen=True, slots=True)
class ByTokens:
    """A language model: reading the prompt, then one step a token written, as an engine's fitted lines say.

    The defaults are a 7B model on one mid-range GPU, about: 4,000 tokens/s read, 40 tokens/s written a request.
    """

    base_s: float = 0.05
    read_token_s: float = 0.00025
    write_token_s: float = 0.025


@dataclass(frozen=True, slots=True)
class Measured:
    """Times as they were measured: quantiles on an even grid from the least to the most."""

    quantiles: tuple[float, ...]


Service = Drawn | ByTokens | Measured


def seconds(service: Service, arrivals: Arrivals, seed: int) -> NDArray[np.float64]:
    """Return how long each request takes a place."""
    match service:
        case Drawn(mean_s, variation):
            if variation == 0.0:
                return np.full(len(arrivals), mean_s)
            shape = 1.0 / variation**2
            return np.random.default_rng((seed, 3)).gamma(shape, mean_s / shape, len(arrivals))
        case ByTokens(base_s, read_s, write_s):
            took: NDArray[np.float64] = base_s + read_s * arrivals.input_tokens + write_s * arrivals.output_tokens
            return took
        case Measured(quantiles):
            chances = np.random.default_rng((seed, 3)).uniform(0.0, 1.0, len(arrivals))
            return np.interp(chances, np.linspace(0.0, 1.0, len(quantiles)), quantiles)
