"""What a load says is made up by number: rows of a signature, sentences, chats of the sizes that were asked for."""

import msgspec
import pytest

from stoker.client.data import ModelMetadata
from stoker.client.prompts import VALUES, WORDS_MAX, Prompts, Size
from stoker.types.errors import InvalidInput
from stoker.types.models import TensorSpec


def test_rows_are_of_the_signature_and_differ() -> None:
    signature = ModelMetadata("m", inputs=(TensorSpec("x", "FP32", (-1, 3)), TensorSpec("t", "BYTES", (-1, 1))))
    made = Prompts("m", "team", "predict", signature)
    bodies = [msgspec.json.decode(made.ask(number).body) for number in range(VALUES)]
    assert all(each["inputs"][0]["shape"] == [1, 3] for each in bodies)
    assert len({each["inputs"][0]["data"][0] for each in bodies}) == VALUES
    assert made.ask(0) is made.ask(VALUES), "large rows are encoded once"
    assert made.ask(0).headers["x-stoker-project"] == "team"


def test_a_chat_has_its_words_and_its_tokens_and_none_begins_as_another() -> None:
    made = Prompts("m", "team", "chat")
    asks = [made.ask(number, Size(12, 5)) for number in range(50)]
    bodies = [msgspec.json.decode(each.body) for each in asks]
    texts = [each["messages"][0]["content"] for each in bodies]
    assert {len(each.split()) for each in texts} == {12}
    assert len({" ".join(each.split()[:5]) for each in texts}) == 50
    assert all(each["max_tokens"] == 5 and each["stream_options"] == {"include_usage": True} for each in bodies)
    assert all(each.is_stream for each in asks)
    assert made.ask(3) == Prompts("m", "team", "chat").ask(3)


def test_no_text_is_longer_than_there_may_be() -> None:
    asked = Prompts("m", "team", "chat").ask(0, Size(10 * WORDS_MAX, 0))
    body = msgspec.json.decode(asked.body)
    assert len(body["messages"][0]["content"].split()) == WORDS_MAX
    assert body["max_tokens"] == 1


def test_an_embedder_gets_a_sentence() -> None:
    asked = Prompts("m", "team", "embed").ask(0)
    assert asked.path == "/v1/embeddings"
    assert not asked.is_stream


def test_a_model_without_a_signature_is_refused() -> None:
    with pytest.raises(InvalidInput, match="does not say what goes in"):
        Prompts("m", "team", "predict", ModelMetadata("m")).ask(0)
