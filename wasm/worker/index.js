// Scores posts at the edge: POST {"texts": ["so good"]} and get {"results": [...]}.
import { ColdreadError, load } from "coldread";
import module from "coldread/coldread.wasm";
import model from "coldread/default.coldread";

const MAX_BODY_BYTES = 262_144;
const MAX_POSTS = 100;
let loading;

export default {
  async fetch(request) {
    if (request.method !== "POST") return failure(405, "method_not_allowed", "send posts with POST", { allow: "POST" });
    const body = await request.arrayBuffer();
    if (body.byteLength > MAX_BODY_BYTES) return failure(413, "body_too_large", `the body is larger than ${MAX_BODY_BYTES} bytes`);
    let texts;
    try {
      ({ texts } = JSON.parse(new TextDecoder().decode(body)));
    } catch {
      return failure(400, "invalid_json", "the body is not a JSON object");
    }
    if (!Array.isArray(texts) || texts.length > MAX_POSTS) {
      return failure(400, "invalid_request", `texts must be an array of at most ${MAX_POSTS} strings`);
    }
    try {
      // At the first request: a Worker's start has a time limit of its own.
      loading ??= load(model, { module });
      const results = (await loading).classify(texts);
      return Response.json({ results: results.map((result) => (result instanceof Error ? { error: plain(result) } : result)) });
    } catch (error) {
      if (error instanceof ColdreadError && error.code === "invalid_type") return failure(400, error.code, error.message);
      loading = undefined;
      return failure(500, "internal", "the posts could not be scored");
    }
  },
};

const plain = ({ code, message }) => ({ code, message });

function failure(status, code, message, headers) {
  return Response.json({ error: { code, message } }, { status, headers });
}
