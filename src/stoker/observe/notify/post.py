"""Delivers notices: each receiver has its own queue and its own pace, so a dead one holds up nobody else.

A notice that fails is tried again after 1 s, 2 s, … up to RETRY_MAX_S, in its order; what a receiver would never take
(a 4xx) and what is older than GIVE_UP_S is given up, and said so in the log.
"""

import asyncio
import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from stoker.core.notices import Notice
from stoker.observe.notify import apprise, formats, http
from stoker.observe.notify.mail import Mail
from stoker.observe.notify.secrets import resolve
from stoker.protocol import webhooks
from stoker.telemetry.metrics import Registry
from stoker.types.errors import InvalidInput, NoticeRefused, NotReachable
from stoker.types.resources import Notifier

RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 300.0
GIVE_UP_S: Final = 3600.0
MAIL_THREADS: Final = 16  # mails under way at once
_TRY_AGAIN: Final = (408, 425, 429)  # of 4xx: what another time may be taken

log = logging.getLogger(__name__)


class Post:
    """One in a control process. `close` at the end."""

    def __init__(self, metrics: Registry, url: str, clock: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._url = url
        self._clock = clock
        self._threads = ThreadPoolExecutor(MAIL_THREADS, "mail")
        self._apprise_threads = ThreadPoolExecutor(apprise.THREADS, "apprise")
        self._queues: dict[str, deque[Notice]] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._receivers: dict[str, Notifier] = {}
        self._held: set[int] = set()  # numbers that were taken on
        self._settled: set[int] = set()

    def deliver(self, outbox: Sequence[Notice], receivers: Sequence[Notifier]) -> None:
        """Take on what of `outbox` is not under way yet; whoever is not among `receivers` is told nothing more."""
        self._receivers = {f"{each.metadata.project}/{each.metadata.name}": each for each in receivers}
        for name in self._workers.keys() - self._receivers.keys():
            self._workers.pop(name).cancel()
            self._held -= {notice.number for notice in self._queues.pop(name, ())}
        known = {notice.number for notice in outbox}
        for name, queue in self._queues.items():  # what the outbox dropped for newer ones is not sent either
            self._queues[name] = deque(notice for notice in queue if notice.number in known)
        self._held &= known
        self._settled &= known
        for notice in outbox:
            if notice.number in self._held or notice.receiver not in self._receivers:
                continue
            self._held.add(notice.number)
            self._queues.setdefault(notice.receiver, deque()).append(notice)
            worker = self._workers.get(notice.receiver)
            if worker is None or worker.done():
                self._workers[notice.receiver] = asyncio.create_task(self._work(notice.receiver))

    def settled(self) -> set[int]:
        """Return the numbers of notices that were delivered or given up, until they are in no outbox."""
        return set(self._settled)

    async def send(self, notifier: Notifier, notice: Notice) -> None:
        """Tell one receiver once. Raises NotReachable, NoticeRefused, and InvalidInput (no such secret)."""
        spec = notifier.spec
        if spec.type == "email":
            assert spec.email is not None  # the manifest was checked
            password = resolve(spec.email.password) if spec.email.password else ""
            await Mail(spec.email, password, formats.mail(notice, spec.email.sender, spec.email.to)).send(self._threads)
            return
        url = resolve(spec.url_from) if spec.url_from else spec.url
        if spec.type == "apprise":
            told = (formats.title(notice), formats.text(notice))
            await apprise.send(self._apprise_threads, url, *told, is_firing=notice.is_firing)
            return
        body = formats.webhook(notice, self._url) if spec.type == "webhook" else formats.slack(notice)
        headers = {"Content-Type": "application/json", "User-Agent": "stoker"}
        if spec.type == "webhook":
            headers |= self._signed(spec.sign_with, notice, body)
        status = await http.post(url, body, headers)
        if 400 <= status < 500 and status not in _TRY_AGAIN:
            raise NoticeRefused(f"it answered {status}")
        if not 200 <= status < 300:
            raise NotReachable(f"it answered {status}")

    async def close(self) -> None:
        """Stop delivering; what was not delivered is still in the outbox."""
        for worker in self._workers.values():
            worker.cancel()
        await asyncio.gather(*self._workers.values(), return_exceptions=True)
        for threads in (self._threads, self._apprise_threads):
            threads.shutdown(wait=False, cancel_futures=True)

    def _signed(self, sign_with: str | None, notice: Notice, body: bytes) -> dict[str, str]:
        key = resolve(sign_with).encode() if sign_with else b""
        now_s = self._clock()
        headers = webhooks.sign(key, _id(notice), now_s, body)
        return {**headers, "X-Stoker-Signature": webhooks.former(key, now_s, body)} if key else headers

    async def _work(self, name: str) -> None:
        """Deliver one receiver's queue, in order, until it is empty."""
        wait_s = RETRY_FIRST_S
        while self._queues.get(name):
            notice = self._queues[name][0]
            outcome = await self._try(name, notice)
            if outcome == "later" and self._clock() - notice.at_s < GIVE_UP_S:
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, RETRY_MAX_S)
                continue
            wait_s = RETRY_FIRST_S
            self._metrics.counter("stoker_notices_total", outcome="delivered" if outcome == "done" else "lost").add()
            self._settled.add(notice.number)
            queue = self._queues.get(name)
            if queue and queue[0] is notice:
                queue.popleft()

    async def _try(self, name: str, notice: Notice) -> str:
        """Return done, later or never."""
        told = {"receiver": name, "notice": notice.number}
        try:
            await self.send(self._receivers[name], notice)
        except NoticeRefused as refused:
            log.error("a receiver refused a notice; it is given up", extra={**told, "reason": refused.message})
            return "never"
        except (NotReachable, InvalidInput) as failed:
            log.warning("a notice could not be delivered", extra={**told, "reason": failed.message})
            return "later"
        except Exception:  # a receiver's odd answer must not end its worker
            log.exception("a notice failed", extra=told)
            return "never"
        return "done"


def _id(notice: Notice) -> str:
    """Return the same for every try of one notice, another for every other one."""
    return hashlib.sha256(f"{notice.receiver}\0{notice.number}\0{notice.at_s}".encode()).hexdigest()[:32]
