// Scores in the tab for the page at `/` of coldread's server, and for the static site: through the worker, so that the
// page stays responsive. Part of the package, because the page loads it only for those who choose it.

const PER_MESSAGE = 32;
const worker = new URL("worker.js", import.meta.url).href;
const model = new URL("default.coldread", import.meta.url).href;
// Where Trusted Types are enforced, this declares the worker's address trusted.
const trusted = globalThis.trustedTypes?.createPolicy("coldread", { createScriptURL: () => worker });

class Worked {
  #worker = new Worker(trusted?.createScriptURL("") ?? worker, { type: "module" });
  #waiting = new Map();
  #id = 0;

  constructor() {
    this.#worker.onmessage = ({ data: { id, ...response } }) => this.#settle(id, response);
    this.#worker.onerror = () => {
      for (const id of this.#waiting.keys()) this.#settle(id, { error: { error: { message: "the package could not be loaded" } } });
    };
  }

  #settle(id, response) {
    this.#waiting.get(id)?.(response);
    this.#waiting.delete(id);
  }

  async classify(posts, headers) {
    this.#id += 1;
    const id = this.#id;
    const { results, error } = await new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#worker.postMessage({ id, posts, model, headers });
    });
    if (!error) return results;
    const { code, message } = error.error;
    throw Object.assign(new Error(code === "unauthorized" ? "the model requires a valid API key" : message), { code });
  }
}

const classifier = new Worked();

/** Loads the model, which the first posts otherwise wait for. `headers` are for the model's request. */
export async function prepare(headers) {
  await classifier.classify([], headers);
}

/** Yields a row for each post, as the server's NDJSON has them. */
export async function* score(posts, headers) {
  for (let first = 0; first < posts.length; first += PER_MESSAGE) {
    const results = await classifier.classify(posts.slice(first, first + PER_MESSAGE), headers);
    for (const [i, result] of results.entries()) yield { row: first + i + 1, ...rounded(result) };
  }
}

// The same digits as in the server's JSON: the fewest that parse to the same 32-bit float.
function shortest(score) {
  for (let digits = 1; ; digits += 1) {
    const short = Number(score.toPrecision(digits));
    if (digits === 9 || Math.fround(short) === score) return short;
  }
}

function rounded(result) {
  if (result.error) return result;
  const scores = Object.fromEntries(Object.entries(result.scores).map(([label, score]) => [label, shortest(score)]));
  return { ...result, score: shortest(result.score), scores };
}

// The fields of delimited text, by row. A quoted field may contain delimiters and line ends.
function fields(text, delimiter) {
  const rows = [[]];
  const field = new RegExp(`(?:"((?:[^"]|"")*)"|([^"${delimiter}\\r\\n][^${delimiter}\\r\\n]*|))(${delimiter}|\\r\\n|\\r|\\n|$)`, "y");
  while (field.lastIndex < text.length) {
    const at = field.lastIndex;
    const found = field.exec(text);
    if (!found) throw new Error(`the quotes of row ${rows.length} do not match, at character ${at}`);
    rows.at(-1).push(found[1]?.replaceAll('""', '"') ?? found[2]);
    if (found[3] !== delimiter) rows.push([]);
  }
  return rows.filter((row) => row.some((value) => value !== ""));
}

/** The posts of a file, which the server would otherwise parse. */
export async function posts(file) {
  const text = (await file.text()).replace(/^\ufeff/, "");
  const delimiter = [[/\.csv$/i, ","], [/\.(tsv|tab)$/i, "\t"]].find(([name]) => name.test(file.name))?.[1];
  if (delimiter) {
    const [header, ...rows] = fields(text, delimiter);
    const column = (header ?? []).findIndex((name) => name.trim().toLowerCase() === "text");
    if (column < 0) throw new Error("the file has no column `text`");
    return rows.map((row) => row[column] ?? "");
  }
  const lines = text.split(/\r\n|\r|\n/).filter((line) => line.trim());
  if (!/\.(jsonl|ndjson|json|js)$/i.test(file.name)) return lines;
  return lines.map((line, i) => {
    let row;
    try { row = JSON.parse(line); } catch { throw new Error(`line ${i + 1} is not JSON`); }
    const post = typeof row === "string" ? row : row?.text;
    if (typeof post !== "string") throw new Error(`line ${i + 1} has no \`text\``);
    return post;
  });
}
