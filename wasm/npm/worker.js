// A web worker that scores, so that the page stays responsive:
//
//   const worker = new Worker(new URL("coldread/worker", import.meta.url), { type: "module" });
//   worker.postMessage({ id: 1, posts: ["so good"], model: "/default.coldread" });
//   worker.onmessage = ({ data: { id, results, error } }) => ...
//
// The model of the first message is loaded once; later messages may leave it out. `headers` are
// those of the request for it.
import { ColdreadError, load } from "./coldread.js";

let loading;

self.onmessage = async ({ data: { id, posts, model, headers, longText } }) => {
  try {
    loading ??= load(model, { headers });
    const classifier = await loading;
    const results = classifier.classify(posts, { longText });
    self.postMessage({ id, results: Array.isArray(results) ? results.map(plain) : results });
  } catch (error) {
    if (!(error instanceof ColdreadError && "index" in error)) loading = undefined;
    self.postMessage({ id, error: plain(error) });
  }
};

/** Errors lose their code on the way between threads. */
function plain(result) {
  if (!(result instanceof Error)) return result;
  return { error: { code: result.code ?? "engine_failed", message: result.message } };
}
