// What a user's program does with the npm SDK; prints what it saw as one JSON line.
import { createRequire } from "node:module";

const OpenAI = createRequire(import.meta.url)(process.env.OPENAI_PACKAGE).OpenAI;
const client = new OpenAI({ maxRetries: 0, timeout: 120_000 });
const hello = [{ role: "user", content: "Say hello in one word." }];
const said = {};

said.models = [];
for await (const model of await client.models.list()) said.models.push(model.id);
said.models.sort();
said.model = (await client.models.retrieve("smol")).id;

const answer = await client.chat.completions.create({ model: "smol", messages: hello, max_tokens: 12, temperature: 0 });
said.chat_text = answer.choices[0].message.content;
const usage = answer.usage;
said.chat_usage_adds_up = usage.completion_tokens > 0 && usage.total_tokens === usage.prompt_tokens + usage.completion_tokens;
said.request_id = answer._request_id;

said.stream_text = "";
const usages = [];
const stream = await client.chat.completions.create({
  model: "smol", messages: hello, max_tokens: 12, stream: true, stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  for (const choice of chunk.choices) said.stream_text += choice.delta.content ?? "";
  if (chunk.usage) usages.push([chunk.choices.length, Number(chunk.usage.completion_tokens > 0)]);
}
said.stream_usage = usages.length === 1 ? usages[0] : usages;

said.completion_text = (await client.completions.create({ model: "smol", prompt: "The capital of France is", max_tokens: 4 })).choices[0].text;

const vectors = (await client.embeddings.create({ model: "minilm", input: ["a cat", "a kitten"] })).data.map((item) => item.embedding);
said.embedding_dimensions = vectors.map((vector) => vector.length);
said.embedding_norm = Math.sqrt(vectors[0].reduce((sum, value) => sum + value * value, 0));

const schema = {
  type: "object",
  properties: { name: { type: "string", maxLength: 12 }, age: { type: "integer", minimum: 0, maximum: 120 } },
  required: ["name", "age"],
  additionalProperties: false,
};
const structured = await client.chat.completions.create({
  model: "smol",
  messages: [{ role: "user", content: "Invent a person." }],
  max_tokens: 60,
  response_format: { type: "json_schema", json_schema: { name: "person", strict: true, schema } },
});
said.json = Object.keys(JSON.parse(structured.choices[0].message.content)).sort();

async function refusal({ apiKey, ...change }) {
  const using = apiKey ? client.withOptions({ apiKey }) : client;
  try {
    await using.chat.completions.create({ model: "smol", messages: hello, max_tokens: 1, ...change });
  } catch (problem) {
    return [problem.status, problem.constructor.name];
  }
  return [200, ""];
}

said.errors = {
  "unknown model": await refusal({ model: "nobody" }),
  "bad key": await refusal({ apiKey: "stk_00000000_wrong" }),
  "bad temperature": await refusal({ temperature: 9 }),
  "too long": await refusal({ messages: [{ role: "user", content: "word ".repeat(30_000) }] }),
};
console.log(JSON.stringify(said));
