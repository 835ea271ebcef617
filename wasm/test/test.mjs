// The installed npm package: node test.mjs BINARY POSTS.jsonl
//
// BINARY is a native coldread, whose scores must be the same bits; POSTS.jsonl has {"text": ...} a line.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { ColdreadError, load, supports } from "coldread";

const [binary, postsFile] = process.argv.slice(-2);
const file = (name) => fileURLToPath(import.meta.resolve(`coldread/${name}`));
const compile = (name) => WebAssembly.compile(readFileSync(file(name)));
const classifier = await load();

const posts = readFileSync(postsFile, "utf8").trimEnd().split("\n").map((line) => JSON.parse(line).text);

test("scores are the native engine's bits, with and without relaxed instructions", async () => {
  const native = execFileSync(binary, ["score", "--input", postsFile, "--output", "jsonl"], { encoding: "utf8", maxBuffer: 1 << 26 });
  const rows = native.trimEnd().split("\n").map((line) => JSON.parse(line));
  const modules = ["coldread.wasm", ...(supports().relaxed ? ["coldread-relaxed.wasm"] : [])];
  for (const name of modules) {
    const scored = (await load(undefined, { module: await compile(name) })).classify(posts);
    assert.equal(scored.length, rows.length);
    scored.forEach((result, index) => {
      const row = rows[index];
      if (row.error) return assert.equal(result.code, row.error.code, name);
      assert.equal(result.label, row.label);
      for (const [label, score] of Object.entries(row.scores)) {
        assert.equal(result.scores[label], Math.fround(score), `${name}: post ${index}, ${label}`);
      }
    });
  }
  console.log(`${rows.length} posts, modules: ${modules.join(", ")}; relaxed instructions: ${supports().relaxed}`);
});

test("one post and many", () => {
  const one = classifier.classify("I love this phone");
  assert.equal(one.label, "positive");
  assert.deepEqual(classifier.classify(["so bad", "I love this phone"])[1], one);
  assert.deepEqual(Object.keys(one.scores), classifier.labels);
  assert.deepEqual(classifier.classify([]), []);
});

test("posts that cannot be scored keep their place", () => {
  const [good, empty, long] = classifier.classify(["so good", " \n", "x".repeat(5_000_000)]);
  assert.equal(good.label, "positive");
  assert.deepEqual([empty.code, empty.index], ["empty_text", 1]);
  assert.deepEqual([long.code, long.index], ["text_too_long", 2]);
  assert.throws(() => classifier.classify(""), { name: "ColdreadError", code: "empty_text" });
  assert.throws(() => classifier.classify(["a", 5]), { code: "invalid_type", index: 1 });
  assert.throws(() => classifier.classify(new Map()), { code: "invalid_type" });
  assert.throws(() => classifier.classify("a", { longText: "some" }), { code: "invalid_option" });
});

test("half a surrogate pair is a replacement character", () => {
  assert.deepEqual(classifier.classify("so good \ud83d"), classifier.classify("so good \ufffd"));
});

test("long texts are cut, read in windows or rejected", () => {
  const post = "so good ".repeat(270);
  assert.equal(classifier.classify(post).truncated, true);
  assert.equal(classifier.classify(post, { longText: "window" }).truncated, false);
  assert.throws(() => classifier.classify(post, { longText: "error" }), { code: "text_too_long" });
});

test("what is no model is refused", async () => {
  const model = readFileSync(file("default.coldread"));
  for (const damaged of [new Uint8Array(), new Uint8Array(100), model.subarray(0, 1000), model.subarray(0, model.length - 1)]) {
    await assert.rejects(load(damaged), { name: "ColdreadError", code: "invalid_model" });
  }
  await assert.rejects(load(new URL("file:///no/such/model")), { code: "not_found" });
  await assert.rejects(load("http://127.0.0.1:9/model"), { code: "not_found" });
  assert.equal((await load(model.buffer.slice(model.byteOffset, model.byteOffset + model.length))).name, "default");
});

test("a body becomes a model however it comes", async () => {
  const model = readFileSync(file("default.coldread"));
  const expected = classifier.classify("so good");
  const same = async (response) => {
    const other = await load(response);
    assert.deepEqual(other.classify("so good"), expected);
    assert.ok(other.memoryBytes < model.length + (8 << 20), `${other.memoryBytes} bytes`);
  };
  const pieces = () => {
    const sizes = [1, 63, 100_000, 5_000_000];
    let end = 0;
    return new ReadableStream({
      pull(controller) {
        if (end === model.length) return controller.close();
        const start = end;
        end = Math.min(model.length, end + (sizes.shift() ?? 3_000_000));
        controller.enqueue(new Uint8Array(model.subarray(start, end)));
      },
    });
  };
  await same(new Response(model));
  await same(new Response(pieces()));
  // The length of a compressed body, and one that is too large.
  for (const length of [1000, model.length + 1000]) await same(new Response(pieces(), { headers: { "content-length": length } }));
  for (const body of [null, "", model.subarray(0, 5_000_000), "<!doctype html>"]) {
    await assert.rejects(load(new Response(body)), { name: "ColdreadError", code: "invalid_model" });
  }
  const broken = new ReadableStream({ start: (controller) => controller.error(new Error("reset")) });
  await assert.rejects(load(new Response(broken)), { name: "ColdreadError", code: "not_found", message: /reset/ });
});

test("a model at an address may need headers", async () => {
  const model = readFileSync(file("default.coldread"));
  const server = createServer((request, response) => {
    const isKnown = request.headers["x-api-key"] === "a-key";
    response.writeHead(isKnown ? 200 : 401).end(isKnown ? model : "");
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${server.address().port}/model`;
  try {
    await assert.rejects(load(url), { name: "ColdreadError", code: "unauthorized" });
    const remote = await load(new URL(url), { headers: { "x-api-key": "a-key" } });
    assert.deepEqual(remote.classify("so good"), classifier.classify("so good"));
  } finally {
    server.close();
  }
});

test("an engine without vectors is told so", async () => {
  const { validate } = WebAssembly;
  WebAssembly.validate = () => false;
  try {
    await assert.rejects(load(), { code: "unsupported_engine" });
  } finally {
    WebAssembly.validate = validate;
  }
});

test("memory stays where it is", () => {
  const some = posts.slice(0, 20);
  classifier.classify(some);
  const before = classifier.memoryBytes;
  for (let round = 0; round < 3; round++) classifier.classify([...some, "x".repeat(1_000_000)]);
  assert.ok(classifier.memoryBytes - before <= 4 << 20, `${before} became ${classifier.memoryBytes}`);
});

test("a disposed classifier says so", async () => {
  const other = await load();
  other.dispose();
  assert.throws(() => other.classify("a"), { name: "ColdreadError", code: "disposed" });
  assert.ok(new ColdreadError("a", "b") instanceof Error);
});
