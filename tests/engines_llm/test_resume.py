"""llama.cpp goes on with an answer that another replica began, token for token."""

from pathlib import Path
from typing import Any

import pytest

from stoker.runtime.engines import llamacpp_vocabulary
from stoker.runtime.engines.llamacpp import LlamaEngine
from stoker.runtime.engines.llamacpp_vocabulary import Vocabulary
from stoker.runtime.engines.port import CanResume, Resume
from stoker.types.errors import Unsupported
from tests.engines_llm.support import Answer, answer, chat, completion, run

REQUESTS = {
    "characters of several tokens": chat(
        "Tell a story with an emoji 🎉, with many emoji 🎉🚀.", temperature=0, max_tokens=40
    ),
    "to its own end": chat("hi", temperature=0),
    "a stop text": chat("Count from 1 to 20.", temperature=0, max_tokens=40, stop=["3"]),
    "penalties": chat("Name colours.", temperature=0, max_tokens=24, frequency_penalty=1.5, presence_penalty=1.0),
    "a prompt in token ids": completion([28, 540, 300], temperature=0, max_tokens=20),
}


def resumed(engine: LlamaEngine, request: Any, pieces: list[str]) -> Answer:
    async def collect() -> Answer:
        return Answer([item async for item in engine.resume(request, Resume(tuple(pieces), 1))])

    return run(collect())


@pytest.mark.parametrize("name", REQUESTS)
def test_an_answer_cut_anywhere_goes_on_as_if_it_had_not_been(llama: LlamaEngine, name: str) -> None:
    request = REQUESTS[name]
    assert isinstance(llama, CanResume)
    whole = answer(llama, request)
    pieces = [delta.text for delta in whole.deltas]
    assert len(pieces) > 3
    for cut in (1, len(pieces) // 2, len(pieces)):
        rest = resumed(llama, request, pieces[:cut])
        assert "".join(pieces[:cut]) + rest.text() == whole.text(), cut
        assert rest.finishes == whole.finishes
        used, made = rest.final.usage, whole.final.usage
        assert (used.input_tokens, used.output_tokens) == (made.input_tokens, made.output_tokens), cut


def test_what_a_grammar_holds_or_has_many_choices_is_not_continued(llama: LlamaEngine) -> None:
    for request in (chat(response_format={"type": "json_object"}), chat(n=2)):
        with pytest.raises(Unsupported):
            resumed(llama, request, ["{"])


def test_the_vocabulary_of_a_file_knows_each_token_by_its_text(gguf: Path) -> None:
    words = llamacpp_vocabulary.read(gguf)
    assert words.is_known
    (hello,) = words.tokens(" hello")
    assert isinstance(hello, int)
    assert words.tokens("🎉") == ["🎉"]  # no token of its own: the engine cuts it


def test_a_file_that_is_none_is_an_unknown_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF" + b"\xff" * 100)
    assert not llamacpp_vocabulary.read(path).is_known


def test_sentencepieces_are_spelt_in_bytes_where_there_is_no_token() -> None:
    tokens = ["<s>", "▁the", "\n", "<0x0A>", "<0xC3>", "<0xA9>", "</s>"]
    values = {"model": "llama", "tokens": [token.encode() for token in tokens], "token_type": (3, 1, 1, 6, 6, 6, 3)}
    words = Vocabulary({**values, "bos_token_id": 0})
    assert words.tokens(" the") == [1]
    assert words.tokens("\n") == [2]  # the ordinary token rather than the byte
    assert words.tokens("é") == [4, 5]
    assert words.start == "<s>"
    assert words.tokens("</s>") == []  # control tokens have no text
