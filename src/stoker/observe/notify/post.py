"""Tells receivers of alerts, each in its own form: who gets which notice is decided elsewhere (core/notices.py)."""

import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from stoker.core.notices import Notice
from stoker.observe.notify import apprise, formats
from stoker.observe.notify.delivery import Delivery, post
from stoker.observe.notify.mail import Mail
from stoker.protocol import webhooks
from stoker.telemetry.metrics import Registry
from stoker.types.resources import Notifier

MAIL_THREADS: Final = 16  # mails under way at once
Resolve = Callable[[str, str], Awaitable[str]]  # project, reference


class Post:
    """One in a control process. `close` at the end.

    resolve: returns what a project's receiver names; raises SecretUnavailable.
    """

    def __init__(self, metrics: Registry, url: str, resolve: Resolve, clock: Callable[[], float] = time.time) -> None:
        self._url = url
        self._resolve = resolve
        self._clock = clock
        self._threads = ThreadPoolExecutor(MAIL_THREADS, "mail")
        self._apprise_threads = ThreadPoolExecutor(apprise.THREADS, "apprise")
        self._receivers: dict[str, Notifier] = {}
        self._delivery: Delivery[Notice] = Delivery(
            self._send, lambda outcome: metrics.counter("stoker_notices_total", outcome=outcome).add(), clock
        )

    def deliver(self, outbox: Sequence[Notice], receivers: Sequence[Notifier]) -> None:
        """Take on what of `outbox` is not under way yet; whoever is not among `receivers` is told nothing more."""
        self._receivers = {f"{each.metadata.project}/{each.metadata.name}": each for each in receivers}
        self._delivery.deliver(outbox, self._receivers)

    def settled(self) -> set[int]:
        """Return the numbers of notices that were delivered or given up, until they are in no outbox."""
        return self._delivery.settled()

    async def send(self, notifier: Notifier, notice: Notice) -> None:
        """Tell one receiver once. Raises NotReachable, NoticeRefused, SecretUnavailable."""
        spec, project = notifier.spec, notifier.metadata.project
        if spec.type == "email":
            assert spec.email is not None  # the manifest was checked
            password = await self._resolve(project, spec.email.password) if spec.email.password else ""
            await Mail(spec.email, password, formats.mail(notice, spec.email.sender, spec.email.to)).send(self._threads)
            return
        url = await self._resolve(project, spec.url_from) if spec.url_from else spec.url
        if spec.type == "apprise":
            told = (formats.title(notice), formats.text(notice))
            await apprise.send(self._apprise_threads, url, *told, is_firing=notice.is_firing)
            return
        body = formats.webhook(notice, self._url) if spec.type == "webhook" else formats.slack(notice)
        key = await self._resolve(project, spec.sign_with) if spec.sign_with else ""
        await post(url, body, self._signed(key.encode(), notice, body) if spec.type == "webhook" else {})

    async def close(self) -> None:
        """Stop delivering; what was not delivered is still in the outbox."""
        await self._delivery.close()
        for threads in (self._threads, self._apprise_threads):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _send(self, notice: Notice) -> None:
        await self.send(self._receivers[notice.receiver], notice)

    def _signed(self, key: bytes, notice: Notice, body: bytes) -> dict[str, str]:
        now_s = self._clock()
        headers = webhooks.sign(key, _id(notice), now_s, body)
        return {**headers, "X-Stoker-Signature": webhooks.former(key, now_s, body)} if key else headers


def _id(notice: Notice) -> str:
    """Return the same for every try of one notice, another for every other one."""
    return hashlib.sha256(f"{notice.receiver}\0{notice.number}\0{notice.at_s}".encode()).hexdigest()[:32]
