// Sends posts to this server as NDJSON and shows results as they arrive. The document says where posts
// can be scored: `data-server` on the server, `data-package` in the tab, with the npm package there.
"use strict";

const MAX_SHOWN = 200;
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);
const page = document.documentElement.dataset;

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

function key() {
  const key = $("key").value.trim();
  return key ? { "x-api-key": key } : {};
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

// Where the tab scores, with the npm package, its module; else null.
let tabModule = null;

async function tab() {
  if (!$("in-tab").checked) return null;
  tabModule ??= import(new URL(`${page.package}tab.js`, document.baseURI)).catch(() => {
    tabModule = null;
    throw new Error("the package could not be loaded");
  });
  return tabModule;
}

async function scoreInTab(tab, results, onPart) {
  try {
    for await (const row of tab.score(results.texts, key())) {
      running.signal.throwIfAborted();
      results.add(row);
      onPart(0, results.total);
    }
  } catch (error) {
    if (error.code === "unauthorized") $("key-box").open = true;
    throw error;
  }
}

async function score(tab, parts, results, onPart) {
  running = new AbortController();
  if (tab) return scoreInTab(tab, results, onPart);
  for (const [i, { contentType, query, body }] of parts.entries()) {
    const reply = await fetch(`v1/sentiment?detect_language=true${query ?? ""}`, {
      method: "POST",
      headers: { ...key(), "content-type": contentType, accept: "application/x-ndjson" },
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
    const chosen = await tab();
    await score(chosen, [{ contentType: "application/x-ndjson", body: ndjson(texts) }], results, () => {});
    const took = performance.now() - began;
    results.summarise();
    $("latency").textContent = `${took.toFixed(1)} ms for ${texts.length} ${texts.length === 1 ? "post" : "posts"}${chosen ? ", in this tab" : ""}`;
    $("status").textContent = `${results.total} scored.`;
    results.offerDownload();
  });
});

// The requests for a file, and its posts if they are known.
async function read(tab, file) {
  if (tab) return { parts: [], texts: await tab.posts(file) };
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
    const chosen = await tab();
    const { parts, texts } = await read(chosen, file);
    const rows = await countRows(file, texts);
    const results = new Results(texts);
    await score(chosen, parts, results, (_part, total) => {
      $("progress").value = Math.min(1, total / rows);
    });
    results.summarise();
    results.offerDownload();
    $("status").textContent = `${results.total} rows, ${results.errors} of them not scored.`;
  });
});

$("stop").addEventListener("click", () => running?.abort());

const hasServer = "server" in page;
if (hasServer) {
  fetch("v1/info", { headers: key() })
    .then(async (reply) => (reply.ok ? reply.json() : Promise.reject(await failure(reply))))
    .then(
      (info) => {
        $("model").textContent = `${info.model} (${info.engine.engine})`;
        if (info.also_model) firstModel = info.model;
      },
      () => { $("model").textContent = "unknown"; },
    );
} else {
  $("model").textContent = "default, in this tab; nothing leaves this page";
  $("key-box").hidden = true;
  document.querySelector("footer").hidden = true;
}
$("in-tab").checked = !hasServer;
$("where").hidden = !(hasServer && page.package);
$("megabytes").textContent = page.megabytes ?? "";
// Loads ahead of the first post; a failure shows with that.
$("in-tab").addEventListener("change", () => tab().then((tab) => tab?.prepare(key())).catch(() => {}));
