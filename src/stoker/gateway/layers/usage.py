"""Each request of an endpoint leaves one usage record, whatever becomes of it (gateway/usage/).

The exchange itself has it written, just before its answer's last byte. Here its bill begins, and a request that must be
paid is refused while there is no room for its record; others run, and their lost records are counted.
"""

from stoker.gateway.exchange import Exchange, Handler, Work
from stoker.gateway.usage.journal import Journal
from stoker.gateway.usage.record import Bill, must_pay
from stoker.gateway.usage.tags import TagReader
from stoker.types.errors import UsageJournalFull


def usage(journal: Journal, tags: TagReader, inner: Handler) -> Handler:
    """Have the exchange recorded when it ends."""

    def handle(exchange: Exchange) -> Work:
        lane, key = exchange.lane, exchange.key
        assert lane is not None
        assert key is not None
        if journal.is_full and must_pay(lane):
            raise UsageJournalFull(
                "usage cannot be written down: the disk or STOKER_USAGE_JOURNAL_MAX is full", retry_after_s=5.0
            )
        named = tags.read(key, exchange.request.headers.get(b"x-stoker-tags"))
        exchange.bill = Bill(journal, lane, named)
        return inner(exchange)

    return handle
