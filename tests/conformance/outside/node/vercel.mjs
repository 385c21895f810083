// The Vercel AI SDK, pointed at the local proxy: one check a line on standard output.
// Usage: node vercel.mjs WORDS, from the folder that holds node_modules.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import assert from 'node:assert/strict';

const words = JSON.parse(process.argv[2]);
const require = createRequire(`${process.cwd()}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { generateText, streamText, embedMany, tool, jsonSchema, Output } = await load('ai');
const { createOpenAICompatible } = await load('@ai-sdk/openai-compatible');
const { createOpenAI } = await load('@ai-sdk/openai');
const { z } = await load('zod');

const settings = { baseURL: words.base_url, apiKey: words.api_key };
const compatible = createOpenAICompatible({
  name: 'latensgate',
  supportsStructuredOutputs: true,
  includeUsage: true,
  ...settings,
});
const openai = createOpenAI(settings);
const asked = { instructions: words.system, prompt: words.prompt, maxRetries: 0 };
const tools = {
  [words.tool]: tool({
    description: words.tool_description,
    inputSchema: jsonSchema({
      type: 'object',
      properties: { [words.property]: { type: 'string' } },
      required: [words.property],
      additionalProperties: false,
    }),
  }),
};

async function streamed(model) {
  const result = streamText({ model, ...asked });
  let text = '';
  for await (const piece of result.textStream) text += piece;
  assert.ok(text.length > 0);
  assert.equal(await result.finishReason, 'stop');
}

const checks = {
  async text() {
    const answer = await generateText({ model: compatible(words.model), ...asked });
    assert.ok(answer.text.length > 0);
    assert.equal(answer.finishReason, 'stop');
    assert.ok(answer.usage.totalTokens > 0);
  },
  stream: () => streamed(compatible(words.model)),
  async tools() {
    const answer = await generateText({
      model: compatible(words.model),
      ...asked,
      tools,
      toolChoice: { type: 'tool', toolName: words.tool },
    });
    assert.equal(answer.toolCalls[0].toolName, words.tool);
    assert.equal(typeof answer.toolCalls[0].input[words.property], 'string');
  },
  async object() {
    const answer = await generateText({
      model: compatible(words.model),
      ...asked,
      output: Output.object({ schema: z.object({ [words.property]: z.string() }) }),
    });
    assert.equal(typeof answer.output[words.property], 'string');
  },
  async embeddings() {
    const answer = await embedMany({
      model: compatible.embeddingModel(words.embedding_model),
      values: [words.prompt, words.system],
      maxRetries: 0,
    });
    assert.equal(answer.embeddings.length, 2);
  },
  async responses() {
    const answer = await generateText({ model: openai(words.model), ...asked });
    assert.ok(answer.text.length > 0);
  },
  responses_stream: () => streamed(openai(words.model)),
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
