"""What a gateway does when a setting is changed while it runs (types/tuning.py)."""

import dataclasses
from dataclasses import dataclass

from stoker.gateway.access import AccessLog
from stoker.gateway.answers import Answers
from stoker.gateway.http.server import Server
from stoker.gateway.samples import Samples
from stoker.gateway.tracer import Tracer
from stoker.telemetry.logs import set_level
from stoker.types.tuning import Tuning


@dataclass(frozen=True, slots=True)
class Tuned:
    """The parts that can be tuned. usual: what they were started with."""

    usual: Tuning
    tracer: Tracer
    access: AccessLog
    answers: Answers
    samples: Samples
    server: Server

    def tune(self, tuning: Tuning) -> None:
        """Bring them into line with `tuning`; takes microseconds, and comes with every route table."""
        now = tuning.over(self.usual)
        set_level(now.log_level or "info")
        self.tracer.tune(now.trace_ratio or 0.0, now.trace_slow_s or 0.0)
        self.tracer.access = self.access if now.access_log == "on" else None
        self.answers.allowance.max_bytes = now.cache_max_bytes or 0
        self.samples.max_bytes = now.samples_max_bytes or 0
        limits, per_address = self.server.limits, now.connections_per_address or 0
        if limits.per_address_max != per_address:
            self.server.limits = dataclasses.replace(limits, per_address_max=per_address)
