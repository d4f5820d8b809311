"""What receivers get, and what happens when one is slow, gone, wrong or refuses: on real sockets."""

import asyncio
import base64
import hmac
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from stoker.core.alerts import Alert
from stoker.core.notices import Notice
from stoker.observe.notify import formats, http
from stoker.observe.notify.post import Post
from stoker.telemetry.metrics import Registry
from stoker.types.errors import InvalidInput, NoticeRefused, NotReachable, SecretUnavailable
from stoker.types.notifiers import Email, NotifierSpec
from stoker.types.resources import Metadata, Notifier
from tests.observe.named import resolve
from tests.observe.receivers import Webhook, mailbox, tarpit
from tests.streams import serving

NOW_S = 1_790_000_000.25


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    made = Webhook()
    yield made
    made.close()


def alert(state: str = "firing", slo: str = "answers") -> Alert:
    made = Alert(
        id="e47bef49ec7a4c7d",
        labels={"alertname": "SloBurn", "project": "default", "endpoint": "digits", "slo": slo, "owner": "ada"},
        severity="page",
        state="firing",
        summary="default/digits misses its objective 'answers'",
        because="500 of 500 events were <bad> in 10s",
        runbook="https://wiki/digits",
        began_s=NOW_S,
        since_s=NOW_S,
        ended_s=NOW_S + 60 if state == "resolved" else 0.0,
    )
    return msgspec.structs.replace(made, state="resolved") if state == "resolved" else made


def notice(number: int = 1, receiver: str = "default/phone", *alerts: Alert, left_out: int = 0) -> Notice:
    return Notice(number, receiver, "default/digits", NOW_S, alerts or (alert(),), left_out)


def receiver(name: str = "phone", **spec: object) -> Notifier:
    return Notifier(Metadata(name), msgspec.convert({"type": "webhook", **spec}, NotifierSpec))


def run(work: Callable[[Post], Awaitable[None]]) -> None:
    async def bounded() -> None:
        post = Post(Registry("control"), "http://127.0.0.1:8001", resolve, lambda: NOW_S)
        try:
            async with asyncio.timeout(60):
                await work(post)
        finally:
            await post.close()

    asyncio.run(bounded())


async def settled(post: Post, *numbers: int) -> None:
    while not set(numbers) <= post.settled():
        await asyncio.sleep(0.005)


def test_a_webhook_is_alertmanagers_version_4_field_by_field() -> None:
    body = msgspec.json.decode(
        formats.webhook(notice(1, "default/phone", alert(), alert("resolved", "quick")), "http://c")
    )
    labels = {"alertname": "SloBurn", "project": "default", "endpoint": "digits", "severity": "page", "owner": "ada"}
    said = {
        "summary": "default/digits misses its objective 'answers'",
        "description": "500 of 500 events were <bad> in 10s",
        "runbook_url": "https://wiki/digits",
    }
    common = {"annotations": said, "generatorURL": "http://c", "fingerprint": "e47bef49ec7a4c7d"}
    assert body == {
        "version": "4",
        "groupKey": '{}:{endpoint="digits", project="default"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "default/phone",
        "groupLabels": {"project": "default", "endpoint": "digits"},
        "commonLabels": labels,
        "commonAnnotations": said,
        "externalURL": "http://c",
        "alerts": [
            {
                "status": "firing",
                "labels": {**labels, "slo": "answers"},
                "startsAt": "2026-09-21T14:13:20.250Z",
                "endsAt": "0001-01-01T00:00:00Z",
                **common,
            },
            {
                "status": "resolved",
                "labels": {**labels, "slo": "quick"},
                "startsAt": "2026-09-21T14:13:20.250Z",
                "endsAt": "2026-09-21T14:14:20.250Z",
                **common,
            },
        ],
    }
    assert msgspec.json.decode(formats.webhook(notice(1, "r", alert("resolved")), ""))["status"] == "resolved"


def test_chat_gets_one_text_that_cannot_forge_markup() -> None:
    body = msgspec.json.decode(formats.slack(notice(left_out=3)))
    assert body.keys() == {"text"}
    assert body["text"].startswith("*[PAGE] default/digits misses its objective 'answers' (and 3 more)*\n")
    assert "&lt;bad&gt;" in body["text"]
    assert "https://wiki/digits" in body["text"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what Apprise imports
def test_apprise_tells_whatever_it_knows_by_its_address_and_refuses_what_it_does_not(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("apprise", reason="an extra: pip install 'stoker[apprise]'")
    monkeypatch.setenv("STOKER_SECRET_WHERE", webhook.url.replace("http://", "json://hunter2:secret@"))
    monkeypatch.setenv("STOKER_SECRET_WRONG", "nosuch://hunter2@there")

    async def work(post: Post) -> None:
        await post.send(receiver(type="apprise", url_from="env:STOKER_SECRET_WHERE"), notice())
        webhook.answers = [500]
        with pytest.raises(NotReachable) as failed:
            await post.send(receiver(type="apprise", url_from="env:STOKER_SECRET_WHERE"), notice())
        with pytest.raises(InvalidInput, match="none that Apprise can read") as unknown:
            await post.send(receiver(type="apprise", url_from="env:STOKER_SECRET_WRONG"), notice())
        assert "hunter2" not in f"{failed.value}{unknown.value}{caplog.text}"

    run(work)
    told = webhook.posts[0].json
    assert told["title"] == "[PAGE] default/digits misses its objective 'answers'"
    assert "https://wiki/digits" in told["message"]
    assert told["type"] == "failure"


def test_without_apprise_its_receivers_are_told_nothing_and_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)  # as if it were not installed
    monkeypatch.setenv("STOKER_SECRET_WHERE", "json://127.0.0.1:9")

    async def work(post: Post) -> None:
        with pytest.raises(InvalidInput, match=r"pip install 'stoker\[apprise\]'"):
            await post.send(receiver(type="apprise", url_from="env:STOKER_SECRET_WHERE"), notice())

    run(work)


def test_a_signed_webhook_proves_who_sent_it_and_when(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_SECRET_HOOK_KEY", "hunter2")

    async def work(post: Post) -> None:
        await post.send(receiver(url=f"{webhook.url}/hook?a=b", sign_with="env:STOKER_SECRET_HOOK_KEY"), notice())

    run(work)
    (got,) = webhook.posts
    assert got.path == "/hook?a=b"
    at, id_ = got.headers["webhook-timestamp"], got.headers["webhook-id"]
    assert int(at) == int(NOW_S)
    mark = hmac.new(b"hunter2", f"{id_}.{at}.".encode() + got.body, "sha256").digest()
    assert got.headers["webhook-signature"] == "v1," + base64.b64encode(mark).decode()
    before = hmac.new(b"hunter2", at.encode() + b"." + got.body, "sha256").hexdigest()
    assert got.headers["x-stoker-signature"] == f"t={at},v1={before}"


def test_every_try_of_one_notice_has_one_id_and_another_notice_has_another(webhook: Webhook) -> None:
    webhook.answers = [503]

    async def work(post: Post) -> None:
        with pytest.raises(NotReachable):
            await post.send(receiver(url=webhook.url), notice())
        await post.send(receiver(url=webhook.url), notice())
        await post.send(receiver(url=webhook.url), msgspec.structs.replace(notice(), number=2))

    run(work)
    first, again, other = (each.headers["webhook-id"] for each in webhook.posts)
    assert first == again != other
    assert all("webhook-signature" not in each.headers for each in webhook.posts)  # nothing to sign with


def test_a_secret_that_cannot_be_read_is_told_by_its_name(tmp_path: Path) -> None:
    async def work(post: Post) -> None:
        for wrong in ("env:STOKER_SECRET_NOT_SET", f"file:{tmp_path}/none"):
            with pytest.raises(SecretUnavailable) as refused:
                await post.send(receiver(url_from=wrong), notice())
            assert wrong in refused.value.message

    run(work)


def test_a_mail_is_sent_and_a_refusal_is_told(caplog: pytest.LogCaptureFixture) -> None:
    mails: list[str] = []

    def by_mail(port: int) -> Notifier:
        return Notifier(
            Metadata("mail"),
            NotifierSpec("email", email=Email(("ops@example.org",), "stoker@example.org", "127.0.0.1", port, "none")),
        )

    async def work(post: Post) -> None:
        async with mailbox(mails) as port:
            await post.send(by_mail(port), notice())
        async with mailbox(mails, refuse=True) as port:
            with pytest.raises(NotReachable):
                await post.send(by_mail(port), notice())

    run(work)
    (mail,) = mails
    assert "Subject: [PAGE] default/digits misses its objective 'answers'" in mail
    assert "To: ops@example.org" in mail


def test_a_dead_and_a_silent_receiver_hold_up_nobody_else(webhook: Webhook) -> None:
    async def work(post: Post) -> None:
        async with tarpit() as silent:
            everyone = [
                receiver("dead", url="http://127.0.0.1:9/"),
                receiver("silent", url=silent),
                receiver("phone", url=webhook.url),
            ]
            outbox = [
                notice(number, f"default/{name}")
                for number, name in enumerate(("dead", "silent", "phone", "dead", "silent", "phone"), 1)
            ]
            post.deliver(outbox, everyone)
            await settled(post, 3, 6)
            assert post.settled() == {3, 6}
            post.deliver([each for each in outbox if each.number not in (3, 6)], everyone)
            assert post.settled() == set()

    run(work)
    assert [each.json["receiver"] for each in webhook.posts] == ["default/phone"] * 2


def test_what_fails_is_tried_again_in_order_and_what_is_refused_is_given_up(
    webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    webhook.answers = [503, 200, 404]

    async def work(post: Post) -> None:
        phone = receiver(url=f"{webhook.url}/T0/s3cret")
        outbox = [notice(1), notice(2)]
        post.deliver(outbox, [phone])
        post.deliver(outbox, [phone])  # the next look, while they are under way
        await settled(post, 1, 2)
        webhook.answers = [302]
        with pytest.raises(NotReachable, match="302"):
            await post.send(phone, notice())
        webhook.answers = [410]
        with pytest.raises(NoticeRefused, match="410"):
            await post.send(phone, notice())

    with caplog.at_level(logging.DEBUG):
        run(work)
    assert len(webhook.posts) == 5
    assert any("given up" in each.message for each in caplog.records)
    assert "s3cret" not in caplog.text + str([each.__dict__ for each in caplog.records])


def test_a_receiver_that_is_deleted_is_told_nothing_more(webhook: Webhook) -> None:
    async def work(post: Post) -> None:
        async with tarpit() as silent:
            post.deliver([notice(1), notice(2)], [receiver(url=silent)])
            await asyncio.sleep(0)
            post.deliver([], [])
            post.deliver([notice(3)], [receiver(url=webhook.url)])
            await settled(post, 3)

    run(work)
    assert len(webhook.posts) == 1


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", b"SSH-2.0\r\n", b"x" * 100_000, b"HTTP/1.1 abc\r\n"])
def test_an_answer_that_is_none_is_an_error_and_never_a_hang(answer: bytes) -> None:
    async def work(_post: Post) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        async with serving(serve) as server:
            with pytest.raises(NotReachable):
                await http.post(f"http://127.0.0.1:{server.port}/", b"{}", {})

    run(work)


def test_a_receiver_that_never_answers_costs_no_more_than_the_timeout() -> None:
    async def work(_post: Post) -> None:
        async with tarpit() as silent:
            with pytest.raises(NotReachable, match="no answer within"):
                await http.post(silent, b"{}", {}, timeout_s=0.05)

    run(work)
