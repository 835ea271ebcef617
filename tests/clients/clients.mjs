// The vendors' JavaScript clients. Started by conformance.py, which it tells each result in
// a line, and asks for a server that is overloaded.
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { readFile } from "node:fs/promises";
import {
  BatchDetectSentimentCommand,
  ComprehendClient,
  DetectSentimentCommand,
} from "@aws-sdk/client-comprehend";
import { InferenceClient } from "@huggingface/inference";

const { URL: server, KEY, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY } = process.env;
const PLAIN = "I love this phone";
const EMOJI = "Größer als gedacht 😍👍🏽 — “naïve” café 你好";
// While the server is overloaded; the first is refused nearly always.
const CALLS = 5;
const TEXTS = [PLAIN, "never again, awful", "the meeting is on friday"];

const stdin = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function native(text) {
  const headers = { "content-type": "application/json", "x-api-key": KEY };
  const body = JSON.stringify({ text });
  const reply = await fetch(`${server}/v1/sentiment`, { method: "POST", headers, body });
  return (await reply.json()).scores;
}

function close(got, native) {
  for (const [label, score] of Object.entries(native)) {
    assert.ok(Math.abs(got[label] - score) < 1e-6, `${JSON.stringify(got)}, not ${JSON.stringify(native)}`);
  }
}

async function run(client, cases) {
  const packageJson = await readFile(new URL(`node_modules/${client}/package.json`, import.meta.url));
  const { version } = JSON.parse(packageJson);
  for (const [name, run] of Object.entries(cases)) {
    const isOverload = name === "overload";
    if (isOverload) {
      console.log("overload");
      await stdin.next();
    }
    let fault = null;
    try {
      await run();
    } catch (error) {
      fault = `${error.name}: ${error.message}`.slice(0, 400);
    }
    if (!isOverload) console.log("result");
    console.log(JSON.stringify({ client, version, case: name, fault }));
  }
}

function aws(options = {}) {
  const credentials = { accessKeyId: AWS_ACCESS_KEY_ID, secretAccessKey: AWS_SECRET_ACCESS_KEY, ...options.credentials };
  const endpoint = server + (options.path ?? "");
  return new ComprehendClient({ endpoint, region: "eu-central-1", credentials, maxAttempts: 12 });
}

const detect = (Text, options) => aws(options).send(new DetectSentimentCommand({ Text, LanguageCode: "en" }));
const batchDetect = (TextList) => aws().send(new BatchDetectSentimentCommand({ TextList, LanguageCode: "en" }));
const awsScores = ({ SentimentScore: { Negative, Neutral, Positive } }) =>
  ({ negative: Negative, neutral: Neutral, positive: Positive });

await run("@aws-sdk/client-comprehend", {
  async plain() {
    for (const path of ["", "/comprehend"]) {
      const result = await detect(PLAIN, { path });
      assert.equal(result.Sentiment, "POSITIVE");
      assert.ok(result.$metadata.requestId);
    }
  },
  async native() {
    for (const text of TEXTS) close(awsScores(await detect(text)), await native(text));
  },
  async unicode() {
    close(awsScores(await detect(EMOJI)), await native(EMOJI));
  },
  async batch() {
    const { ResultList, ErrorList } = await batchDetect(TEXTS);
    assert.deepEqual(ResultList.map((item) => item.Index), [0, 1, 2]);
    assert.deepEqual(ErrorList, []);
    close(awsScores(ResultList[1]), await native(TEXTS[1]));
  },
  async bad_item() {
    const { ResultList, ErrorList } = await batchDetect([PLAIN, "", "x".repeat(5001)]);
    assert.deepEqual(ResultList.map((item) => item.Index), [0]);
    const codes = ErrorList.map((item) => [item.Index, item.ErrorCode]);
    assert.deepEqual(codes, [[1, "InvalidRequestException"], [2, "TextSizeLimitExceededException"]]);
  },
  async oversize() {
    for (const length of [12_945, 5 << 20]) {
      await assert.rejects(detect("x".repeat(length)), { name: "TextSizeLimitExceededException" });
    }
    await assert.rejects(batchDetect(Array(26).fill("a")), { name: "BatchSizeLimitExceededException" });
  },
  async wrong_key() {
    const secretAccessKey = "another/secret+0123456789";
    await assert.rejects(detect(PLAIN, { credentials: { secretAccessKey } }), { name: "InvalidSignatureException" });
    const accessKeyId = "AKIDNOBODY";
    await assert.rejects(detect(PLAIN, { credentials: { accessKeyId } }), { name: "UnrecognizedClientException" });
  },
  async overload() {
    for (let i = 0; i < CALLS; i += 1) assert.equal((await detect(PLAIN)).Sentiment, "POSITIVE");
  },
});

const huggingFace = (inputs, { path = "", key = KEY, ...parameters } = {}) =>
  new InferenceClient(key).textClassification({ endpointUrl: server + path, inputs, parameters });
const hfScores = (result) => Object.fromEntries(result.map(({ label, score }) => [label, score]));

await run("@huggingface/inference", {
  async plain() {
    for (const path of ["", "/models/org/name"]) {
      const result = await huggingFace(PLAIN, { path });
      assert.equal(result[0].label, "positive");
    }
  },
  async native() {
    for (const text of TEXTS) close(hfScores(await huggingFace(text)), await native(text));
  },
  async unicode() {
    close(hfScores(await huggingFace(EMOJI)), await native(EMOJI));
  },
  async parameters() {
    assert.equal((await huggingFace(PLAIN, { top_k: 2, function_to_apply: "softmax" })).length, 2);
  },
  async bad_item() {
    await assert.rejects(huggingFace(" "), /the text is empty/);
  },
  async oversize() {
    for (const length of [70_000, 5 << 20]) {
      await assert.rejects(huggingFace("x".repeat(length)), (error) => error.httpResponse.status === 413);
    }
  },
  async wrong_key() {
    await assert.rejects(huggingFace(PLAIN, { key: "wrong-key-0123456789" }), (error) => error.httpResponse.status === 401);
  },
  async overload() {
    for (let i = 0; i < CALLS; i += 1) assert.equal((await huggingFace(PLAIN))[0].label, "positive");
  },
});
process.exit(0);
