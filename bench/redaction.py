"""How long it takes to redact what is sampled, and how well the recognisers do on the labelled corpus.

python -m bench.redaction

Prints, for 8 KB of each kind of body, from prose and lines of the corpora to nothing but what must be hidden, the best
and the median of 50 runs in ms of processor time, and beside it the time that `json.loads` and `json.dumps` of the same
body take, so that a slow machine shows in both; then recall and precision by kind on tests/core/redaction_corpus.txt,
which the hand wrote that wrote the recognisers, on bench/heldout.txt, which was drawn (bench/heldout.py), and on
bench/hard.txt, which was written to be missed. A span counts when both ends and the kind are right. Wanted: at most
2 ms for 8 KB, recall 0.98 and precision 0.95 on the first two.
"""

import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from stoker.core import kept
from stoker.core.pseudonyms import Pseudonyms
from stoker.core.recognise import RANKS, find
from stoker.core.recognise.checks import luhn
from tests.core.test_recognise import CORPUS, corpus

BYTES = 8192
RUNS = 50
HERE = Path(__file__).parent
LABELLED = {"our own corpus": CORPUS, "the drawn one": HERE / "heldout.txt", "the hard one": HERE / "hard.txt"}
PROSE = (
    "The delivery that was promised for Monday has not come, and nobody at the desk could say where it is. "
    "We ordered twelve chairs and two tables; the invoice of 2026-11-20 says 1,249.50 EUR. Please look into it. "
)
SEED = 11


def bodies() -> dict[str, bytes]:
    """Return bodies of 8 KB by kind."""
    chat = {"model": "m", "messages": [{"role": "user", "content": (PROSE * 60)[:1000]} for _ in range(8)]}
    rows = [{"id": at, "name": f"item {at}", "price": at * 1.5, "tags": ["new", "sale"]} for at in range(120)]
    floats = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [450], "data": [at / 7 for at in range(450)]}]}
    return {
        "prose": json.dumps({"prompt": (PROSE * 60)[:BYTES]}).encode(),
        "chat": json.dumps(chat).encode(),
        "JSON rows": json.dumps(rows).encode(),
        "tensor": json.dumps(floats).encode(),
        **{
            kind: json.dumps({"prompt": text}, ensure_ascii=False).encode()
            for kind, text in (corpora() | worst()).items()
        },
    }


def corpora() -> dict[str, str]:
    """Return lines of the labelled corpora in drawn order; most have something that is or looks like what is hidden."""
    draw = random.Random(SEED)
    texts = {name: [text for text, _ in corpus(path)] for name, path in LABELLED.items()}
    return {
        name: "\n".join(draw.sample(lines, len(lines))).encode()[:BYTES].decode(errors="ignore")
        for name, lines in texts.items()
    }


def worst() -> dict[str, str]:
    """Return texts of which everything is looked at; no two numbers are the same, as in a list of customers."""
    draw = random.Random(SEED)

    def digits(count: int) -> str:
        return "".join(draw.choices("0123456789", k=count))

    def card() -> str:
        body = f"4{digits(14)}"
        number = next(body + last for last in "0123456789" if luhn(body + last))
        return " ".join(number[at : at + 4] for at in range(0, 16, 4))

    def text(made: Callable[[], str]) -> str:
        return "".join(made() for _ in range(BYTES // 2))[:BYTES]

    return {
        "all personal": text(
            lambda: f"Write to anna.{digits(3)}@example.com or call +49 30 {digits(7)}, card {card()}. "
        ),
        "addresses": text(lambda: f"anna.{digits(3)}@example.com, "),
        "cards": text(lambda: f"{card()} "),
        "phones": text(lambda: f"+49 30 {digits(7)}, "),
        "IPv4": text(lambda: f"192.168.{draw.randrange(256)}.{draw.randrange(256)} "),
        "IPv6": text(lambda: f"2001:db8::{digits(3)} "),
        "digits": text(lambda: f"{digits(4)} "),
        "one digit": text(lambda: f"{digits(1)} "),
        "digits alone": text(lambda: digits(8)),
    }


def times_ms(work: Callable[[], object]) -> tuple[float, float]:
    """Return best and median of the processor time of `work`."""
    taken = []
    for _ in range(RUNS):
        began_s = time.thread_time()
        work()
        taken.append((time.thread_time() - began_s) * 1e3)
    return min(taken), statistics.median(taken)


def main() -> None:
    """Run all."""
    names = Pseudonyms(bytes(32))
    print(f"{'body':14} {'bytes':>6} {'best ms':>8} {'median ms':>9} {'json ms':>8}")
    for kind, data in bodies().items():
        best, median = times_ms(lambda data=data: kept.body(data, names, bytes_max=1 << 20))  # type: ignore[misc]
        plain, _ = times_ms(lambda data=data: json.dumps(json.loads(data)))  # type: ignore[misc]
        print(f"{kind:14} {len(data):6} {best:8.2f} {median:9.2f} {plain:8.2f}")
    for name, labelled in LABELLED.items():
        print(f"\n{name}")
        rates(labelled)


def rates(labelled: Path) -> None:
    """Print recall and precision by kind."""
    counts: Counter[tuple[str, str]] = Counter()
    for text, wanted in corpus(labelled):
        got = set(find(text))
        for what, spans in (("right", got & wanted), ("missed", wanted - got), ("false", got - wanted)):
            counts.update((span.kind, what) for span in spans)
    for span_kind in RANKS:
        for what in ("right", "missed", "false"):
            counts["all", what] += counts[span_kind, what]
    print(f"{'kind':8} {'recall':>7} {'precision':>9} {'of':>5}")
    for kind in (*RANKS, "all"):
        right, missed, false = (counts[kind, what] for what in ("right", "missed", "false"))
        if right + missed:
            print(f"{kind:8} {right / (right + missed):7.3f} {right / max(right + false, 1):9.3f} {right + missed:5}")


if __name__ == "__main__":
    main()
