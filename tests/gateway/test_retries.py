"""How often a failed request is tried again when every try fails: the budget, and what is counted of it."""

import asyncio
import time
from pathlib import Path

from stoker.core.retry import PER_S, RATIO, TRIES_MAX, WINDOW_S
from stoker.types.usage import Flag
from tests.gateway import rig as rigs
from tests.gateway.rig import holds, infer, load_of, run
from tests.gateway.talkers import metric, metrics
from tests.gateway.usage_records import records

REQUESTS = 80


def test_replicas_that_refuse_everything_are_not_asked_without_end(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    def asked() -> int:
        return sum(line.startswith("request infer") for name in ("r0", "r1") for line in rig.lines(name))

    with rigs.rig(tmp_path, replicas=2) as rig:

        async def work() -> None:
            texts = [f"until:{gate} refuse:unavailable {n}" for n in range(REQUESTS)]
            tasks = [asyncio.create_task(infer(rig, text)) for text in texts]
            await holds(lambda: asked() == REQUESTS)
            began_s = time.monotonic()
            gate.touch()
            answers = await asyncio.gather(*tasks)
            assert {answer.status for answer in answers} == {503}
            assert {answer.headers["retry-after"] for answer in answers} == {"3"}
            text = await metrics(rig)
            retries = metric(text, "stoker_retries_total", endpoint="digits", reason="unavailable")
            denied = {
                reason: metric(text, "stoker_retries_denied_total", endpoint="digits", reason=reason)
                for reason in ("budget", "tries")
            }
            allowed = PER_S * (WINDOW_S + time.monotonic() - began_s) + RATIO * (REQUESTS + 1)
            assert retries <= allowed < REQUESTS * (TRIES_MAX - 1)
            assert retries >= PER_S * WINDOW_S  # a short burst is not held back
            assert denied["budget"] + denied["tries"] == REQUESTS
            assert sum(each.flags & Flag.WASTED_TRY != 0 for each in records(rig)) == retries
            assert asked() == REQUESTS + retries  # the count is what the replicas saw
            assert (await load_of(rig)).arrived == REQUESTS + 1  # what scaling is told of: a retry is nobody who came

        run(work)
