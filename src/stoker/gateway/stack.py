"""The layers of the data plane in one place, in their order, each with the reason for its position.

rescue    outermost: whatever happens below, the client gets one answer, in its protocol's shape; then the trace ends
trace     an id before anything can fail, so that every answer and log line has it
auth      before the body is read: a stranger costs a hash and learns nothing
validate  finds the endpoint; all that follows is by endpoint
meter     around every refusal below, because a 429 is a request too
usage     inside of meter and around all that answers or refuses: each request leaves one record
sample    inside of meter and around all that answers or refuses: an error and a kept answer are samples too
quota     before anything waits: who asks for more than it may takes nothing from the others
kept      (budget.py) a kept answer may cost a little too; after quota, because a rate is cheaper to give back
cache     a kept answer is given to who may ask, and counted, but waits for nothing and needs no replica
deadline  around everything that waits
fallback  chooses the endpoint that serves: outside admit, because a full queue is a reason for the next one too;
          inside meter and deadline, because however many serve it is one request with one deadline
budget    inside of fallback, because another endpoint may be cheaper and its price is what is set aside; before
          anything waits for a place or is computed, for what cannot be paid must cost nothing
coalesce  each that shares a call has a deadline of its own; the call is admitted, tried again and placed once
shadow    copies what is really computed here, once; outside of admit, so that a copy is no try
admit     refuses at once what would wait in vain, before it takes a place or a retry
retry     a retry is the same request: counted, timed and admitted once
route     each try chooses anew; holds the place in the replica
hedge     asks a second replica when that place is slow; most endpoints pass it by
upstream  the frames

A layer takes the next one and returns a Handler. Those that only look before (trace, auth, validate, usage, admit;
sample, cache and coalesce where they are off) are plain functions that hand back the inner coroutine: they cost a
call. A layer wraps the exchange, never a stream's chunks.
"""

from dataclasses import dataclass

from stoker.gateway.answers import Answers
from stoker.gateway.budgets import Budgets
from stoker.gateway.directory import Directory
from stoker.gateway.exchange import Handler
from stoker.gateway.fleet.trial import Trials
from stoker.gateway.layers.admit import admit
from stoker.gateway.layers.auth import auth
from stoker.gateway.layers.budget import budget, budget_of_kept
from stoker.gateway.layers.cache import cache
from stoker.gateway.layers.coalesce import Flights, coalesce
from stoker.gateway.layers.deadline import Deadlines, deadline
from stoker.gateway.layers.fallback import fallback
from stoker.gateway.layers.hedge import hedge
from stoker.gateway.layers.meter import meter
from stoker.gateway.layers.quota import quota
from stoker.gateway.layers.rescue import rescue
from stoker.gateway.layers.retry import retry
from stoker.gateway.layers.route import route
from stoker.gateway.layers.sample import sample
from stoker.gateway.layers.shadow import Shadows, shadow
from stoker.gateway.layers.trace import Ids, trace
from stoker.gateway.layers.upstream import upstream
from stoker.gateway.layers.usage import usage
from stoker.gateway.layers.validate import validate
from stoker.gateway.quotas import Quotas
from stoker.gateway.samples import Samples
from stoker.gateway.tracer import Tracer
from stoker.gateway.usage.journal import Journal
from stoker.gateway.usage.tags import TagReader


@dataclass(frozen=True, slots=True)
class Stack:
    """The layers' own state, made once a process."""

    directory: Directory
    deadlines: Deadlines
    trials: Trials
    ids: Ids
    tracer: Tracer
    quotas: Quotas
    answers: Answers
    flights: Flights
    samples: Samples
    shadows: Shadows
    journal: Journal
    budgets: Budgets

    def inference(self) -> Handler:
        """Return the whole stack, for what goes to a replica."""
        call: Handler = hedge(upstream)
        call = route(self.trials, call)
        call = retry(call)
        call = admit(call)
        call = shadow(self.shadows, call)
        call = coalesce(self.flights, call)
        call = budget(self.budgets, call)
        call = fallback(self.directory, call)
        call = deadline(self.deadlines, call)
        call = cache(self.answers, call)
        call = budget_of_kept(self.budgets, call)
        call = quota(self.quotas, call)
        call = sample(self.samples, call)
        call = usage(self.journal, TagReader(), call)
        call = meter(call)
        call = validate(self.directory, call)
        return self.reading(call)

    def reading(self, call: Handler) -> Handler:
        """Return the outer layers around `call`, for what the gateway answers itself to who has a key."""
        return self.open(auth(self.directory, call))

    def open(self, call: Handler) -> Handler:
        """Return the outermost layers around `call`, for what anybody may ask."""
        return rescue(self.tracer, trace(self.ids, self.tracer, call))
