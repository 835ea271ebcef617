import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { Miniflare } from "miniflare";

const POSTS = ["I love this phone 😍", "never again, awful", "it is on friday"];
const read = (file) => readFile(new URL(file, import.meta.url));
const worker = new Miniflare({
  compatibilityDate: "2026-07-01",
  modules: [
    { type: "ESModule", path: "index.js", contents: await read("index.js") },
    { type: "ESModule", path: "coldread", contents: await read("coldread/coldread.js") },
    { type: "CompiledWasm", path: "coldread/coldread.wasm", contents: await read("coldread/coldread.wasm") },
    { type: "Data", path: "coldread/default.coldread", contents: await read("coldread/default.coldread") },
  ],
});
const ask = async (body, method = "POST") => {
  const response = await worker.dispatchFetch("http://worker.example/", { method, body });
  return [response.status, await response.json()];
};
try {
  const [status, { results }] = await ask(JSON.stringify({ texts: [...POSTS, " "] }));
  assert.equal(status, 200);
  const native = execFileSync(process.argv[2], ["score", "--output", "jsonl", ...POSTS], { encoding: "utf8" });
  native.trimEnd().split("\n").forEach((line, index) => {
    const { label, scores } = JSON.parse(line);
    assert.equal(results[index].label, label);
    for (const name of Object.keys(scores)) assert.equal(results[index].scores[name], Math.fround(scores[name]));
  });
  assert.equal(results[3].error.code, "empty_text");
  const code = async (body, method) => {
    const [status, { error }] = await ask(body, method);
    return [status, error.code];
  };
  assert.deepEqual(await code(undefined, "GET"), [405, "method_not_allowed"]);
  assert.deepEqual(await code("{"), [400, "invalid_json"]);
  assert.deepEqual(await code("null"), [400, "invalid_json"]);
  assert.deepEqual(await code('{"texts": "a"}'), [400, "invalid_request"]);
  assert.deepEqual(await code('{"texts": [5]}'), [400, "invalid_type"]);
  assert.deepEqual(await code("x".repeat(300_000)), [413, "body_too_large"]);
  console.log("the Worker scores as the native program does");
} finally {
  await worker.dispose();
}
