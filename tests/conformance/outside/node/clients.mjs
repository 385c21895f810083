// OpenAI's own Node clients, pointed at the local proxy: one check a line on standard output.
// Usage: node clients.mjs PACKAGE WORDS, from the folder that holds node_modules.
// WORDS (JSON) names the models, prompts and tools, so that nothing can know them beforehand.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import assert from 'node:assert/strict';

const [kind, told] = process.argv.slice(2);
const words = JSON.parse(told);
const require = createRequire(`${process.cwd()}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { default: OpenAI } = await load(kind);
const client = new OpenAI({
  baseURL: words.base_url,
  apiKey: words.api_key,
  maxRetries: 0,
  timeout: 60_000,
});
const messages = [
  { role: 'system', content: words.system },
  { role: 'user', content: words.prompt },
];
const tool = {
  type: 'function',
  function: {
    name: words.tool,
    description: words.tool_description,
    parameters: {
      type: 'object',
      properties: { [words.property]: { type: 'string' } },
      required: [words.property],
      additionalProperties: false,
    },
  },
};
const schema = {
  type: 'object',
  properties: { [words.property]: { type: 'string' }, count: { type: 'integer' } },
  required: [words.property, 'count'],
  additionalProperties: false,
};

const checks = {
  async models() {
    const listed = [];
    for await (const model of client.models.list()) listed.push(model.id);
    assert.ok(listed.includes(words.model), listed.join());
    assert.equal((await client.models.retrieve(words.model)).id, words.model);
  },
  async chat() {
    const { data, response, request_id } = await client.chat.completions
      .create({ model: words.model, messages })
      .withResponse();
    assert.equal(data.object, 'chat.completion');
    assert.ok(data.choices[0].message.content.length > 0);
    assert.equal(data.choices[0].finish_reason, 'stop');
    assert.ok(data.usage.total_tokens > 0);
    assert.ok(request_id);
    assert.match(response.headers.get('latensgate-receipt'), /^aud_[0-9a-f]{16}$/);
  },
  async stream() {
    const stream = await client.chat.completions.create({
      model: words.model,
      messages,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = '';
    let reason = null;
    let usage = null;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? '';
      reason = chunk.choices[0]?.finish_reason ?? reason;
      usage = chunk.usage ?? usage;
    }
    assert.ok(text.length > 0);
    assert.equal(reason, 'stop');
    assert.ok(usage.total_tokens > 0);
  },
  async stream_helper() {
    const stream = client.chat.completions.stream({ model: words.model, messages });
    const whole = await stream.finalChatCompletion();
    assert.ok(whole.choices[0].message.content.length > 0);
  },
  async stream_given_up() {
    const stream = await client.chat.completions.create({
      model: words.model,
      messages,
      stream: true,
    });
    for await (const chunk of stream) {
      assert.ok(chunk.id);
      break;
    }
  },
  async tools() {
    const answer = await client.chat.completions.create({
      model: words.model,
      messages,
      tools: [tool],
      tool_choice: 'required',
    });
    const [call] = answer.choices[0].message.tool_calls;
    assert.equal(answer.choices[0].finish_reason, 'tool_calls');
    assert.equal(call.function.name, words.tool);
    assert.equal(typeof JSON.parse(call.function.arguments)[words.property], 'string');
    const next = await client.chat.completions.create({
      model: words.model,
      messages: [
        ...messages,
        answer.choices[0].message,
        { role: 'tool', tool_call_id: call.id, content: words.tool_result },
      ],
      tools: [tool],
    });
    assert.equal(next.choices[0].finish_reason, 'stop');
  },
  async tools_stream() {
    const stream = client.chat.completions.stream({
      model: words.model,
      messages,
      tools: [tool],
      tool_choice: { type: 'function', function: { name: words.tool } },
    });
    const whole = await stream.finalChatCompletion();
    const [call] = whole.choices[0].message.tool_calls;
    assert.equal(call.function.name, words.tool);
    assert.equal(typeof JSON.parse(call.function.arguments)[words.property], 'string');
  },
  async tool_runner() {
    const seen = [];
    const runner = client.chat.completions.runTools({
      model: words.model,
      messages,
      tool_choice: { type: 'function', function: { name: words.tool } },
      tools: [
        {
          type: 'function',
          function: {
            ...tool.function,
            parse: JSON.parse,
            function: (given) => {
              seen.push(given);
              return words.tool_result;
            },
          },
        },
      ],
    });
    await runner.finalContent();
    assert.equal(seen.length, 1);
  },
  async structured_output() {
    const answer = await client.chat.completions.parse({
      model: words.model,
      messages,
      response_format: {
        type: 'json_schema',
        json_schema: { name: words.schema, schema, strict: true },
      },
    });
    const value = JSON.parse(answer.choices[0].message.content);
    assert.equal(typeof value[words.property], 'string');
    assert.ok(Number.isInteger(value.count));
  },
  async embeddings() {
    const answer = await client.embeddings.create({
      model: words.embedding_model,
      input: [words.prompt, words.system],
    });
    assert.equal(answer.data.length, 2);
    assert.ok(answer.data[0].embedding.length > 8);
    assert.ok(answer.data[0].embedding.every((number) => Number.isFinite(number)));
    assert.ok(answer.usage.total_tokens > 0);
  },
  async responses() {
    const answer = await client.responses.create({
      model: words.model,
      instructions: words.system,
      input: words.prompt,
      store: false,
    });
    assert.equal(answer.status, 'completed');
    assert.ok(answer.output_text.length > 0);
  },
  async responses_stream() {
    const stream = client.responses.stream({ model: words.model, input: words.prompt });
    const kinds = new Set();
    for await (const event of stream) kinds.add(event.type);
    assert.ok(kinds.has('response.output_text.delta'));
    assert.ok((await stream.finalResponse()).output_text.length > 0);
  },
  async responses_tools() {
    const answer = await client.responses.create({
      model: words.model,
      input: words.prompt,
      tools: [{ type: 'function', strict: true, ...tool.function }],
      tool_choice: 'required',
    });
    const call = answer.output.find((item) => item.type === 'function_call');
    assert.equal(call.name, words.tool);
  },
  async unknown_model() {
    await assert.rejects(
      client.chat.completions.create({ model: words.unknown_model, messages }),
      (error) => error instanceof OpenAI.NotFoundError && error.status === 404,
    );
  },
  async bad_request() {
    await assert.rejects(
      client.chat.completions.create({ model: words.model, messages: [] }),
      (error) => error instanceof OpenAI.BadRequestError && typeof error.type === 'string',
    );
  },
};

for (const [name, check] of Object.entries(checks)) {
  const found = { name, passed: true, error: null };
  try {
    await check();
  } catch (error) {
    found.passed = false;
    found.error = `${error?.constructor?.name}: ${String(error?.message ?? error).slice(0, 500)}`;
  }
  console.log(JSON.stringify(found));
}
