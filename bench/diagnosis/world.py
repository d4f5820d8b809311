"""A small endpoint on virtual time: clients, a gateway's queues, replicas that run requests together, an autoscaler.

It knows nothing of causes or scores. Faults (faults.py) turn its knobs or reach into it; what follows from them
(queues, timeouts, retries, more replicas) comes from the model, and is measured as the platform measures (recorder.py).
Generation is modelled as continuous batching: a request holds a slot, prefills, and decodes at a step time that
grows with what runs beside it; where the cache is full it is put back and begins again.
"""

import heapq
from collections import deque
from collections.abc import Callable
from math import ceil, exp, pi, sin
from random import Random

from bench.diagnosis.parts import TOKENS_MAX, Arm, Knobs, Replica, Request
from bench.diagnosis.recorder import STEP_S, Recorder
from stoker.core.diagnose.window import Change

SAMPLE_S = 5.0
SCALE_EVERY_S = 15.0
QUEUE_MAX = 150


class World:
    def __init__(self, seed: int, knobs: Knobs) -> None:
        self.random = Random(seed)
        self.knobs = knobs
        self.now_s = 0.0
        self.recorder = Recorder()
        self.replicas: list[Replica] = []
        self.arms: dict[str, Arm] = {"r1": Arm(1.0)}
        self.main = "r1"
        self.queues: dict[str, deque[Request]] = {}
        self.wanted = max(knobs.replicas_min, 1)
        self._events: list = []
        self._count = 0
        self._names = 0
        self._last_request_s = 0.0
        self._load: deque[float] = deque(maxlen=round(60 / SAMPLE_S))
        self._low: deque[int] = deque(maxlen=round(300 / SCALE_EVERY_S))
        self._scaled_first = True
        for _ in range(self.wanted):
            self.start(self.main, 0.0)
        self.after(0.0, self._arrive)
        self.after(SAMPLE_S, self._sample)
        self.after(SCALE_EVERY_S, self._scale)
        self.after(STEP_S, self._step)

    # Time.

    def after(self, delay_s: float, do: Callable, *what: object) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now_s + delay_s, self._count, do, what))

    def run(self, until_s: float) -> None:
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, do, what = heapq.heappop(self._events)
            do(*what)
        self.now_s = until_s

    def _step(self) -> None:
        self.recorder.step(self.now_s)
        self.after(STEP_S, self._step)

    def journal(self, kind: str, what: str, subject: str = "") -> None:
        self.recorder.changes.append(Change(self.now_s, kind, what, subject))

    # Clients.

    def _arrive(self) -> None:
        knobs = self.knobs
        on_s, off_s = knobs.burst
        if on_s and self.now_s % (on_s + off_s) >= on_s:
            self.after(on_s + off_s - self.now_s % (on_s + off_s), self._arrive)
            return
        self.submit(self.request())
        rate = knobs.rate * sum(knobs.tenants.values()) * (1 + knobs.swing * sin(2 * pi * self.now_s / knobs.day_s))
        self.after(self.random.expovariate(rate), self._arrive)

    def request(self) -> Request:
        knobs, random = self.knobs, self.random
        one = Request()
        one.tenant = random.choices(list(knobs.tenants), list(knobs.tenants.values()))[0]
        names = list(knobs.methods)
        one.method = random.choices(names, [each.weight for each in knobs.methods.values()])[0]
        method = knobs.methods[one.method]
        one.prompt = max(round(method.prompt * knobs.prompt_times * exp(random.gauss(0, 0.5))), 1)
        one.output = min(max(round(method.output * knobs.output_times * exp(random.gauss(0, 0.5))), 1), TOKENS_MAX)
        luck = random.random()
        one.kind = "empty" if luck < knobs.empty else "repeating" if luck < knobs.empty + knobs.repeating else ""
        one.output = 1 if one.kind == "empty" else TOKENS_MAX if one.kind == "repeating" else one.output
        one.first_s, one.again, one.is_poison = self.now_s, 0, False
        return one

    def submit(self, one: Request) -> None:
        """A try of a client: a new one, or again."""
        knobs, recorder = self.knobs, self.recorder
        one.came_s, one.done, one.put_back, one.extra_s, one.deaths, one.replica = self.now_s, False, 0, 0.0, 0, None
        one.generation = getattr(one, "generation", 0) + 1
        self._last_request_s = self.now_s
        if one.again:
            recorder.count("stoker_client_retries_total")
        one.revision = self.random.choices(list(self.arms), [arm.share for arm in self.arms.values()])[0]
        ready = [each for each in self.replicas if each.ready and each.revision == one.revision]
        if not ready:
            recorder.count("stoker_cold_requests_total")
            if not self.replicas:
                self.wanted = 1
                self.journal("scale", "started a replica: a request waits")
                self.start(self.main)
        queue = self.queues.setdefault(one.revision, deque())
        if len(queue) >= QUEUE_MAX:
            recorder.count("stoker_refused_total", reason="queue_full")
            self.end(one, 429)
            return
        queue.append(one)
        self.after(knobs.timeout_s, self._give_up, one, one.generation)
        self.dispatch(one.revision)

    def _give_up(self, one: Request, generation: int) -> None:
        if one.done or one.generation != generation:
            return
        self.recorder.count("stoker_cancelled_total")
        replica = one.replica
        self.end(one, 499)
        if replica is not None:
            self._leave(replica, one)

    def end(self, one: Request, code: int) -> None:
        """The client hears of it, and may try again."""
        one.done = True
        labels = {"revision": one.revision, "method": one.method}
        self.recorder.count("stoker_requests_total", code=str(code), **labels)
        self.recorder.count("stoker_tenant_requests_total", tenant=one.tenant, code=str(code))
        self.recorder.observe("stoker_request_duration_seconds", self.now_s - one.came_s, **labels)
        if code != 200 and code != 422 and one.again + 1 < self.knobs.tries_max:
            again = Request()
            for name in Request.__slots__:
                if hasattr(one, name):
                    setattr(again, name, getattr(one, name))
            again.again = one.again + 1
            self.after(self.knobs.backoff_s * 2 ** min(one.again, 4) * self.random.uniform(0.75, 1.0),
                       self.submit, again)  # fmt: skip

    # Gateway.

    def dispatch(self, revision: str) -> None:
        queue = self.queues.get(revision)
        slots = self.slots(revision)
        while queue:
            if queue[0].done:
                queue.popleft()
                continue
            ready = [r for r in self.replicas if r.ready and r.revision == revision]
            well = [r for r in ready if not r.is_still] or ready  # one that is silent is taken out, but not the last
            able = [r for r in well if r.held < slots + 1]
            if not able:
                return
            one = queue.popleft()
            replica = min(able, key=lambda each: (each.held, self.random.random()))
            one.sent_s, one.replica = self.now_s, replica
            self.recorder.observe("stoker_request_phase_seconds", self.now_s - one.came_s,
                                  phase="queue", revision=revision)  # fmt: skip
            one.network_s = self.knobs.network_s + self.random.expovariate(1 / self.knobs.network_jitter_s)
            replica.waiting.append(one)
            self.after(one.network_s / 2, self._fill, replica)

    def slots(self, revision: str) -> int:
        arm = self.arms.get(revision)
        return (arm.slots if arm is not None else 0) or self.knobs.slots

    # Replicas.

    def start(self, revision: str, delay_s: float | None = None, node: str = "") -> Replica:
        self._names += 1
        one = Replica(f"{revision}-{self._names}", revision, node or f"n{self._names % 2}")
        self.replicas.append(one)
        self.recorder.nodes[one.name] = one.node
        delay_s = self.knobs.start_s * self.random.uniform(0.8, 1.3) if delay_s is None else delay_s
        self.after(delay_s, self._ready, one, one.generation)
        return one

    def _ready(self, one: Replica, generation: int) -> None:
        if not one.gone and one.generation == generation:
            one.ready = True
            self.recorder.count("stoker_cold_starts_total", kind="replica", node=one.node)
            self.dispatch(one.revision)

    def stop(self, one: Replica) -> None:
        """Drain: what it holds goes on."""
        one.gone, one.ready = True, False
        self.replicas.remove(one)

    def stand_still(self, one: Replica, seconds: float) -> None:
        """It finishes nothing and answers nothing, until the agent kills it."""
        one.is_still = True
        self.after(seconds, self._killed, one, one.generation, f"answered no PING for {seconds:.0f} s")

    def _killed(self, one: Replica, generation: int, why: str) -> None:
        if one.generation == generation and not one.gone:
            one.is_still = False
            self.die(one, why)

    def die(self, one: Replica, why: str = "killed by signal 11") -> None:
        """A crash: the agent starts it again; what it ran fails, or is tried elsewhere."""
        held = [each for each in (*one.running, *one.waiting) if not each.done]
        one.running.clear()
        one.waiting.clear()
        one.ready = False
        one.generation += 1
        self.recorder.count("stoker_restarts_total", kind="replica", node=one.node, reason="signal")
        self.journal("restart", f"restarted replica {one.name}: {why}", one.name)
        self.after(self.knobs.start_s * 0.8, self._ready, one, one.generation)
        for each in held:
            each.deaths += 1
            each.replica = None
            if each.is_poison and each.deaths >= 2:
                self.recorder.count("stoker_quarantined_total")
                self.end(each, 422)
            elif not each.is_poison and self.random.random() < 0.5:  # bytes of its answer were sent
                self.recorder.count(
                    "stoker_replica_requests_total", revision=one.revision, replica=one.name, code="503"
                )
                self.end(each, 503)
            else:
                self.recorder.count("stoker_retries_total", reason="replica_lost")
                self.queues[each.revision].appendleft(each)
        self.dispatch(one.revision)

    def _fill(self, replica: Replica) -> None:
        knobs, arm = self.knobs, self.arms.get(replica.revision, Arm(0.0))
        while replica.waiting and not replica.is_still and len(replica.running) < self.slots(replica.revision):
            one = replica.waiting.popleft()
            if one.done:
                continue
            if replica.running and replica.kv + one.prompt + one.output > knobs.kv_tokens and one.put_back < 3:
                one.put_back += 1
                one.extra_s += 0.5 * one.output * knobs.step_s  # what it had decoded is decoded again
                replica.waiting.appendleft(one)
                return
            replica.running.append(one)
            together = len(replica.running)
            shared = max(1.0, knobs.others_load, knobs.gpu_load)
            slow = replica.slow * arm.pace * shared * self.random.uniform(0.92, 1.08)
            one.began_s = self.now_s
            one.dependency_s = self.random.expovariate(1 / knobs.dependency_s)
            one.prefill_s = (0.01 + one.prompt * knobs.prefill_token_s) * slow
            one.decode_s = one.output * knobs.step_s * (1 + knobs.crowding * together) * slow + one.extra_s * slow
            self.recorder.observe("stoker_batch_rows", together, revision=replica.revision)
            if one.is_poison:
                self.after(one.prefill_s, self._poisoned, replica, one)
                continue
            fails = self.random.random()
            code, took_s = 200, one.dependency_s + one.prefill_s + one.decode_s
            if fails < knobs.dependency_fails:
                code, took_s = 502, one.dependency_s
            elif fails < knobs.dependency_fails + knobs.fails + arm.fails + replica.fails:
                code, took_s = 500, one.dependency_s + one.prefill_s
            self.after(took_s, self._finish, replica, one, code, one.generation)

    def _poisoned(self, replica: Replica, one: Request) -> None:
        if one in replica.running and not one.done:
            self.die(replica)

    def _leave(self, replica: Replica, one: Request) -> None:
        if one in replica.running:
            replica.running.remove(one)
        self._fill(replica)
        self.dispatch(replica.revision)

    def _finish(self, replica: Replica, one: Request, code: int, generation: int) -> None:
        if one.done or one.generation != generation or one not in replica.running or replica.is_still:
            return
        count, observe = self.recorder.count, self.recorder.observe
        labels = {"revision": replica.revision}
        on = {**labels, "replica": replica.name}
        count("stoker_replica_requests_total", code=str(code), **on)
        observe("stoker_replica_request_duration_seconds", self.now_s + one.network_s / 2 - one.sent_s, **on)
        waited_s = max(one.began_s - one.sent_s - one.network_s / 2, 0.0)
        # What a model calls for an answer it calls before the first token, and nobody tells the two apart.
        phases = {"network": one.network_s, "replica_queue": waited_s, "prefill": one.dependency_s}
        if code == 200:
            phases |= {"prefill": one.dependency_s + one.prefill_s, "decode": one.decode_s}
            observe("stoker_prompt_tokens", one.prompt, method=one.method, **labels)
            observe("stoker_output_tokens", one.output, method=one.method, **labels)
            count("stoker_tenant_tokens_total", one.prompt, tenant=one.tenant, kind="input")
            count("stoker_tenant_tokens_total", one.output, tenant=one.tenant, kind="output")
            if one.output <= 1:
                count("stoker_empty_outputs_total", **labels)
        for phase, seconds in phases.items():
            observe("stoker_request_phase_seconds", seconds, phase=phase, **labels)
        self.after(one.network_s / 2, self._answer, one, code, one.generation)
        self._leave(replica, one)

    def _answer(self, one: Request, code: int, generation: int) -> None:
        if not one.done and one.generation == generation:
            self.end(one, code)

    # Autoscaler and gauges.

    def _sample(self) -> None:
        gauge, knobs = self.recorder.gauge, self.knobs
        waiting = sum(1 for queue in self.queues.values() for each in queue if not each.done)
        self._load.append(waiting + sum(each.held for each in self.replicas))
        gauge("stoker_replicas_ready", sum(each.ready for each in self.replicas))
        gauge("stoker_replicas_wanted", self.wanted + sum(1 for each in self.replicas if each.revision != self.main))
        gauge("stoker_drift_score", max(knobs.drift + self.random.gauss(0, 0.015), 0.0))
        for each in self.replicas:
            if each.is_still and each.held:
                self.recorder.count("stoker_replica_stalled_seconds_total", SAMPLE_S,
                                    revision=each.revision, replica=each.name)  # fmt: skip
            if each.ready:
                gauge("stoker_replica_unwritable", float(knobs.is_unwritable),
                      revision=each.revision, replica=each.name)  # fmt: skip
                gauge("stoker_kv_cache_usage_ratio", min(each.kv / knobs.kv_tokens, 1.0),
                      revision=each.revision, replica=each.name)  # fmt: skip
        for node in ("n0", "n1"):
            mine = [each for each in self.replicas if each.node == node and each.ready]
            busy = sum(1 for each in mine if each.running) / max(len(mine), 1)
            load = max(0.9 * busy + self.random.uniform(0.0, 0.05), min(knobs.others_load, 1.0))
            pressure = 1 - 1 / knobs.others_load if knobs.others_load > 1 else 0.0
            gauge("stoker_node_cpu_ratio", min(load, 1.0), node=node)
            gauge("stoker_node_cpu_pressure_ratio", min(pressure + self.random.uniform(0.0, 0.04), 1.0), node=node)
            used = min(0.6 * busy + knobs.gpu_load, 1.0)
            gauge("stoker_gpu_utilization_ratio", used, node=node, gpu="0")
            gauge("stoker_node_disk_short_ratio", knobs.disk_short_ratio, node=node)
            gauge("stoker_node_clock_apart_seconds", 0.0, node=node)
            gauge("stoker_node_memory_bytes", 64e9, node=node)
            gauge("stoker_node_memory_free_bytes", (0.45 + self.random.uniform(-0.02, 0.02)) * 64e9, node=node)
        self.after(SAMPLE_S, self._sample)

    def _scale(self) -> None:
        knobs = self.knobs
        mine = [each for each in self.replicas if each.revision == self.main]
        load = sum(self._load) / len(self._load) if self._load else 0.0
        wish = min(
            max(ceil(load / (self.slots(self.main) * knobs.target_ratio)), knobs.replicas_min), knobs.replicas_max
        )
        if knobs.idle_s and self.now_s - self._last_request_s > knobs.idle_s:
            wish = 0
        elif knobs.replicas_min == 0:
            wish = max(wish, len(mine), 0)
        self._low.append(wish)
        calm = max(self._low) if wish > 0 else 0
        target = wish if wish > len(mine) else min(calm, len(mine))
        if target != len(mine):
            self.journal("scale", f"scaled from {len(mine)} to {target} replicas")
        self.wanted = target
        for _ in range(target - len(mine)):
            self.start(self.main)
        for one in mine[target:] if target < len(mine) else []:
            self.stop(one)
            for each in one.waiting:
                if not each.done:
                    self.queues[each.revision].appendleft(each)
            one.waiting.clear()
        self.after(SCALE_EVERY_S, self._scale)

    def deploy(self, revision: str, arm: Arm, what: str) -> None:
        """Replace all replicas: new ones beside the old, traffic moves when they are ready, the old drain."""
        self.journal("version", what, revision)
        self.arms[revision] = Arm(0.0, arm.pace, arm.fails, arm.slots)
        count = max(sum(1 for each in self.replicas if each.revision == self.main), 1)
        for _ in range(count):
            self.start(revision)
        self.after(self.knobs.start_s * 1.35, self._switch, revision)

    def _switch(self, revision: str) -> None:
        old, self.main = self.main, revision
        self.journal("traffic", f"revision {revision} serves", revision)
        self.arms[revision].share = 1.0
        left = self.queues.pop(old, deque())
        del self.arms[old]
        for each in left:
            each.revision = revision
        self.queues.setdefault(revision, deque()).extend(left)
        for one in [each for each in self.replicas if each.revision == old]:
            self.stop(one)
            for each in one.waiting:
                if not each.done:
                    each.revision = revision
                    self.queues[revision].appendleft(each)
            one.waiting.clear()
        self.dispatch(revision)
