"""What a user's program does with the SDK; prints what it saw as one JSON line."""

import json
import math

import openai

client = openai.OpenAI(max_retries=0, timeout=120)
hello = [{"role": "user", "content": "Say hello in one word."}]
said: dict[str, object] = {}

said["models"] = sorted(model.id for model in client.models.list())
said["model"] = client.models.retrieve("smol").id

answer = client.chat.completions.create(model="smol", messages=hello, max_tokens=12, temperature=0)
said["chat_text"] = answer.choices[0].message.content
usage = answer.usage
said["chat_usage_adds_up"] = usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
said["request_id"] = answer._request_id

pieces, usages = [], []
for chunk in client.chat.completions.create(
    model="smol", messages=hello, max_tokens=12, stream=True, stream_options={"include_usage": True}
):
    pieces += [choice.delta.content or "" for choice in chunk.choices]
    if chunk.usage is not None:
        usages.append([len(chunk.choices), int(chunk.usage.completion_tokens > 0)])
said["stream_text"] = "".join(pieces)
said["stream_usage"] = usages[0] if len(usages) == 1 else usages

said["completion_text"] = (
    client.completions.create(model="smol", prompt="The capital of France is", max_tokens=4).choices[0].text
)

vectors = [item.embedding for item in client.embeddings.create(model="minilm", input=["a cat", "a kitten"]).data]
said["embedding_dimensions"] = [len(vector) for vector in vectors]
said["embedding_norm"] = math.sqrt(sum(value * value for value in vectors[0]))

schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
structured = client.chat.completions.create(
    model="smol",
    messages=[{"role": "user", "content": "Invent a person."}],
    max_tokens=60,
    response_format={"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": schema}},
)
said["json"] = sorted(json.loads(structured.choices[0].message.content))


def refusal(**change: object) -> list[object]:
    arguments = {"model": "smol", "messages": hello, "max_tokens": 1, **change}
    with_key = client.with_options(api_key=arguments.pop("api_key")) if "api_key" in arguments else client
    try:
        with_key.chat.completions.create(**arguments)
    except openai.APIStatusError as problem:
        return [problem.status_code, type(problem).__name__]
    return [200, ""]


said["errors"] = {
    "unknown model": refusal(model="nobody"),
    "bad key": refusal(api_key="stk_00000000_wrong"),
    "bad temperature": refusal(temperature=9),
    "too long": refusal(messages=[{"role": "user", "content": "word " * 30_000}]),
}
print(json.dumps(said))
