"""The whole platform on virtual time: gateways, replicas, engines, nodes, control, and what breaks.

plan.py      what is simulated, as values
clock.py     virtual time: a heap of events
request.py   one request, and how it can end
cache.py     what an engine keeps of prompts
engines.py   how long work takes inside a replica: independent places, batches, tokens
replica.py   one replica and the process in it
lane.py      one endpoint in one gateway: choice, queue, refusals, retries
control.py   scaling, placement, rollouts: what is wanted, and what becomes of it
faults.py    replicas that crash, nodes that go dark
world.py     all of it put together, and run
outcome.py   what became of every request, in numbers

Decisions are those of `core`: route, affinity, sizes, concurrency, admit, fairness, batch, latency, breaker, retry,
backoff, place, arms, rollout, verdict, scale.
"""
