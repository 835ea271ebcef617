// Sends posts to this server as NDJSON and shows results as they arrive. On a static site, marked
// by the document's `data-scorer`, the tab itself scores, with the npm package in package/.
"use strict";

const MAX_SHOWN = 200;
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

let running = null;
let downloadUrl = null;
// The name of the first of two models; null on a server of one.
let firstModel = null;

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function rect(x, width, className) {
  const made = document.createElementNS(SVG, "rect");
  for (const [name, value] of [["x", x], ["width", width], ["height", 1]]) {
    made.setAttribute(name, value);
  }
  made.setAttribute("class", className);
  return made;
}

function bar(parts) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 1 1");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.append(...parts);
  return svg;
}

const languages = new Intl.DisplayNames(["en"], { type: "language" });

// The post's language, and whether its scores can be relied on.
function languageNote({ language, language_confidence: confidence, warnings }) {
  if (language === undefined || language === "und") return "";
  const note = `${languages.of(language)} (${percent(confidence)})`;
  return warnings?.includes("unsupported_language") ? `${note}: the model was not trained for it, and its scores mean little` : note;
}

const percent = (share) => `${(100 * share).toFixed(1)}%`;

function headers(contentType) {
  const key = $("key").value.trim();
  return key ? { "content-type": contentType, "x-api-key": key } : { "content-type": contentType };
}

// The error in a response, or else its status.
async function failure(response) {
  const body = await response.json().catch(() => null);
  if (response.status === 401) $("key-box").open = true;
  return new Error(body?.error?.message ?? `the server responded with status ${response.status}`);
}

class Results {
  constructor(texts) {
    this.texts = texts;
    this.counts = new Map();
    this.errors = 0;
    this.total = 0;
    this.rows = [];
    $("list").replaceChildren();
    $("results").hidden = $("summary").hidden = true;
    $("download").hidden = true;
  }

  add(row) {
    if (row.row === undefined) throw new Error(row.error.message);
    this.total += 1;
    const text = this.texts?.[row.row - 1];
    if (row.error) {
      this.errors += 1;
    } else {
      this.counts.set(row.label, (this.counts.get(row.label) ?? 0) + 1);
    }
    this.rows.push(row);
    if (this.total <= MAX_SHOWN) this.show(row, text);
  }

  show(row, text) {
    const item = element("li", { value: row.row });
    if (text !== undefined) item.append(element("div", { className: "text", textContent: text }));
    if (row.error) {
      item.append(element("span", { className: "negative", textContent: row.error.message }));
    } else {
      item.append(element("span", { className: `label ${row.label}`, textContent: row.label }));
      if (row.truncated) item.append(" (only its beginning was scored)");
      const note = languageNote(row);
      if (note) item.append(" ", element("span", { className: "note", textContent: note }));
      const bars = element("div", { className: "bars" });
      for (const [label, score] of Object.entries(row.scores)) {
        const svg = bar([rect(0, 1, ""), rect(0, score, "fill")]);
        svg.setAttribute("class", `bar ${label}`);
        bars.append(
          element("span", { textContent: label }),
          svg,
          element("span", { className: "value", textContent: percent(score) }),
        );
      }
      item.append(bars);
    }
    $("list").append(item);
    $("results").hidden = false;
  }

  summarise() {
    const parts = [...this.counts].sort(([a], [b]) => a.localeCompare(b));
    const scored = this.total - this.errors;
    const counts = [];
    const rects = [];
    let x = 0;
    for (const [label, count] of parts) {
      rects.push(rect(x, count / scored, label));
      x += count / scored;
      counts.push(
        element("dt", { className: label, textContent: label }),
        element("dd", { textContent: `${count} (${percent(count / scored)})` }),
      );
    }
    if (this.errors) {
      counts.push(element("dt", { textContent: "not scored" }), element("dd", { textContent: this.errors }));
    }
    $("plot").replaceChildren(bar(rects));
    $("plot").setAttribute("aria-label", parts.map(([label, count]) => `${label}: ${count}`).join(", "));
    $("counts").replaceChildren(...counts);
    $("summary").hidden = this.total === 0;
    const shown = Math.min(this.total, MAX_SHOWN);
    $("shown").textContent = shown < this.total ? `The first ${shown} of ${this.total}; the download has all.` : "";
  }

  offerDownload() {
    // Prefixes an apostrophe to fields that a spreadsheet could take for a formula.
    const field = (value) => {
      const text = String(value).replace(/^[=+\-@\t\r](?![\d.])/, "'$&");
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const scored = this.rows.find((row) => row.scores);
    const labels = Object.keys(scored?.scores ?? {});
    const extra = scored?.language === undefined ? [] : ["language", "warnings"];
    // Rows name the model only if it is not the first one.
    const named = firstModel !== null || this.rows.some((row) => row.model);
    const model = (row) => (named ? [row.model ?? (row.scores && firstModel)] : []);
    const table = [["row", "id", "label", "score", ...labels, ...extra, ...(named ? ["model"] : []), "error"]];
    for (const row of this.rows) {
      const scores = labels.map((label) => row.scores?.[label]);
      const notes = extra.map((name) => [row[name] ?? []].flat().join(" "));
      table.push([row.row, row.id, row.label, row.score, ...scores, ...notes, ...model(row), row.error?.code]);
    }
    const csv = table.map((row) => row.map((value) => field(value ?? "")).join(",") + "\r\n");
    if (downloadUrl) URL.revokeObjectURL(downloadUrl);
    downloadUrl = URL.createObjectURL(new Blob(csv, { type: "text/csv" }));
    $("download").href = downloadUrl;
    $("download").hidden = false;
  }
}

// Calls `use` with each value of an NDJSON body as it arrives.
async function eachLine(body, use) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    const lines = (rest + (value ?? "")).split("\n");
    rest = done ? "" : lines.pop();
    for (const line of lines) if (line) use(JSON.parse(line));
    if (done) return;
  }
}

const ndjson = (texts) => texts.map((text) => JSON.stringify(text) + "\n").join("");

const inTab = document.documentElement.dataset.scorer === "tab";

// The package's worker, so that the page stays responsive.
class Tab {
  #worker;
  #waiting = new Map();
  #id = 0;

  constructor() {
    // Where Trusted Types are enforced, this declares the address of the worker trusted.
    const trusted = window.trustedTypes?.createPolicy("coldread", { createScriptURL: () => "package/worker.js" });
    this.#worker = new Worker(trusted?.createScriptURL("") ?? "package/worker.js", { type: "module" });
    this.#worker.onmessage = ({ data: { id, ...answer } }) => this.#settle(id, answer);
    this.#worker.onerror = () => {
      for (const id of this.#waiting.keys()) this.#settle(id, { error: { error: { message: "the package could not be loaded" } } });
    };
  }

  #settle(id, answer) {
    this.#waiting.get(id)?.(answer);
    this.#waiting.delete(id);
  }

  ask(message) {
    this.#id += 1;
    const id = this.#id;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#worker.postMessage({ id, ...message });
    }).then((answer) => {
      if (answer.error) throw new Error(answer.error.error.message);
      return answer.results;
    });
  }
}

let tab = null;

// The same digits as in the server's JSON: the fewest that parse to the same 32-bit float.
function shortest(score) {
  for (let digits = 1; digits < 9; digits += 1) {
    const short = Number(score.toPrecision(digits));
    if (Math.fround(short) === score) return short;
  }
  return score;
}

function rounded(result) {
  if (result.error) return result;
  const scores = Object.fromEntries(Object.entries(result.scores).map(([label, score]) => [label, shortest(score)]));
  return { ...result, score: shortest(result.score), scores };
}

async function scoreInTab(posts, results, onPart) {
  running = new AbortController();
  tab ??= new Tab();
  for (let first = 0; first < posts.length; first += 32) {
    const some = posts.slice(first, first + 32);
    for (const [i, result] of (await tab.ask({ posts: some })).entries()) {
      results.add({ row: first + i + 1, ...rounded(result) });
    }
    onPart(0, results.total);
    running.signal.throwIfAborted();
  }
}

async function score(parts, results, onPart) {
  if (inTab) return scoreInTab(results.texts, results, onPart);
  running = new AbortController();
  for (const [i, { contentType, query, body }] of parts.entries()) {
    const reply = await fetch(`v1/sentiment?detect_language=true${query ?? ""}`, {
      method: "POST",
      headers: { ...headers(contentType), accept: "application/x-ndjson" },
      body,
      signal: running.signal,
    });
    if (!reply.ok) throw await failure(reply);
    const before = results.total;
    await eachLine(reply.body, (row) => {
      if (row.row !== undefined) row.row += before;
      results.add(row);
      onPart(i, results.total);
    });
  }
}

async function run(form, work) {
  $("error").textContent = "";
  const buttons = document.querySelectorAll("button[type=submit]");
  for (const button of buttons) button.disabled = true;
  try {
    await work();
  } catch (error) {
    $("status").textContent = "";
    $("error").textContent = error.name === "AbortError" ? "Stopped." : `Failed: ${error.message}`;
  } finally {
    running = null;
    for (const button of buttons) button.disabled = false;
    $("stop").hidden = true;
    $("progress").hidden = true;
  }
}

$("posts-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const texts = $("posts").value.split("\n").filter((text) => text.trim());
  if (texts.length === 0) {
    $("error").textContent = "Type or paste at least one post.";
    $("posts").focus();
    return;
  }
  run(event.target, async () => {
    $("status").textContent = "Scoring…";
    const results = new Results(texts);
    const began = performance.now();
    await score([{ contentType: "application/x-ndjson", body: ndjson(texts) }], results, () => {});
    const took = performance.now() - began;
    results.summarise();
    $("latency").textContent = `${took.toFixed(1)} ms for ${texts.length} ${texts.length === 1 ? "post" : "posts"}`;
    $("status").textContent = `${results.total} scored.`;
    results.offerDownload();
  });
});

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

// The posts of a file, if there is no server to parse it.
async function posts(file) {
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

// The requests for a file, and its posts if they are known.
async function read(file) {
  if (inTab) return { parts: [], texts: await posts(file) };
  const kinds = [
    [/\.csv$/i, "text/csv"],
    [/\.(tsv|tab)$/i, "text/tab-separated-values"],
    [/\.(jsonl|ndjson|json|js)$/i, "application/x-ndjson"],
  ];
  const kind = kinds.find(([name]) => name.test(file.name));
  if (kind) return { parts: [{ contentType: kind[1], body: file }], texts: null };
  const text = await file.text();
  // Not UTF-8 or not text: the server detects the type.
  if (/[\0\ufffd]/.test(text)) {
    return { parts: [{ contentType: "text/plain", query: "&format=text", body: file }], texts: null };
  }
  const texts = text.split(/\r\n|\r|\n/).filter((line) => line.trim());
  const parts = [];
  for (let i = 0; i < texts.length; i += 500) {
    parts.push({ contentType: "application/x-ndjson", body: ndjson(texts.slice(i, i + 500)) });
  }
  return { parts, texts };
}

async function countRows(file, texts) {
  // An estimate for CSV, because a quoted field may contain line ends.
  return texts ? texts.length : (await file.text()).split(/\r\n|\r|\n/).filter((line) => line.trim()).length;
}

$("file-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const file = $("file").files[0];
  if (!file) {
    $("error").textContent = "Choose a file first.";
    $("file").focus();
    return;
  }
  run(event.target, async () => {
    $("stop").hidden = $("progress").hidden = false;
    $("progress").value = 0;
    $("status").textContent = "Scoring the file…";
    const { parts, texts } = await read(file);
    const rows = await countRows(file, texts);
    const results = new Results(texts);
    await score(parts, results, (_part, total) => {
      $("progress").value = Math.min(1, total / rows);
    });
    results.summarise();
    results.offerDownload();
    $("status").textContent = `${results.total} rows, ${results.errors} of them not scored.`;
  });
});

$("stop").addEventListener("click", () => running?.abort());

if (!inTab) fetch("v1/info", { headers: headers("application/json") })
  .then(async (reply) => (reply.ok ? reply.json() : Promise.reject(await failure(reply))))
  .then(
    (info) => {
      $("model").textContent = `${info.model} (${info.engine.engine})`;
      if (info.also_model) firstModel = info.model;
    },
    () => { $("model").textContent = "unknown"; },
  );
else {
  $("model").textContent = "default, in this tab; nothing leaves this page";
  $("key-box").hidden = true;
  document.querySelector("footer").hidden = true;
}
