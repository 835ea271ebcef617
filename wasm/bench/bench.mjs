// Measures in turns and prints a table: node bench.mjs BINARY (NODE | chromium)
//
// Every round runs each engine once in a process or page of its own. Ratios are taken within a round and are
// of processor time where the system tells it, so that what else runs on the machine matters less.
import { execFile, execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { cpus, tmpdir } from "node:os";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { measure } from "./engines.mjs";

const [binary, where] = process.argv.slice(2);
const here = fileURLToPath(new URL(".", import.meta.url));
const { posts, ids, rounds, onnx } = JSON.parse(await readFile(join(here, "posts.json"), "utf8"));
const NAMES = ["coldread", "int8", "int8-fused"];

if (where === "one") {
  const cpuSeconds = () => Object.values(process.cpuUsage()).reduce((a, b) => a + b) / 1e6;
  const files = { coldread: "coldread", ort: "onnxruntime-web", onnx: join(here, onnx) };
  const figures = await measure(process.argv[4], files, posts, ids, cpuSeconds);
  console.log(JSON.stringify({ ...figures, peak: process.resourceUsage().maxRSS * 1024 }));
  process.exit();
}

/** Processor seconds of the native program for all posts, its start taken off. */
function native() {
  const seconds = (file) => {
    const script = 'TIMEFORMAT="%U %S"; time "$0" score --isa avx2 --threads 1 --input "$1" --output jsonl > /dev/null';
    const told = execFileSync("bash", ["-c", `{ ${script}; } 2>&1`, binary, file], { encoding: "utf8" });
    return told.trim().split(" ").reduce((a, b) => a + Number(b), 0);
  };
  return seconds(join(here, "posts.txt")) - seconds("/dev/null");
}

async function inNode() {
  const { stdout } = await promisify(execFile)(where, ["--version"]);
  const run = async (name) => {
    const { stdout } = await promisify(execFile)(where, ["--no-warnings", join(here, "bench.mjs"), binary, "one", name]);
    return JSON.parse(stdout.trimEnd().split("\n").at(-1));
  };
  return { title: `Node.js ${stdout.trim()}`, run, close() {} };
}

async function inChromium() {
  const { chromium } = await import("playwright-core");
  const types = { ".wasm": "application/wasm", ".html": "text/html" };
  const server = createServer(async ({ url }, response) => {
    const path = url === "/" ? undefined : join(here, decodeURIComponent(url.split("?")[0]));
    const body = path ? await readFile(path).catch(() => undefined) : "<!doctype html><title>bench</title>";
    const type = path ? (types[extname(path)] ?? (/\.m?js$/.test(path) ? "text/javascript" : "application/octet-stream")) : "text/html";
    response.writeHead(body === undefined ? 404 : 200, {
      "content-type": type,
      "content-length": body?.length ?? 0,
      "cache-control": "public, max-age=31536000, immutable",
    });
    response.end(body);
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const base = `http://127.0.0.1:${server.address().port}`;
  // A profile on disk, so that the pages after the first find the files in the browser's cache.
  const profile = await mkdtemp(join(tmpdir(), "coldread-bench-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: process.getuid() === 0 ? ["--no-sandbox"] : [],
  });
  const files = {
    coldread: `${base}/node_modules/coldread/coldread.js`,
    ort: `${base}/node_modules/onnxruntime-web/dist/ort.wasm.min.mjs`,
    wasm: `${base}/node_modules/onnxruntime-web/dist/`,
    onnx: `${base}/${onnx}`,
  };
  const run = async (name) => {
    const page = await context.newPage();
    await page.goto(base);
    const figures = await page.evaluate(
      async ([base, name, files, posts, ids]) => {
        const { measure } = await import(`${base}/engines.mjs`);
        return measure(name, files, posts, ids, () => performance.now() / 1e3);
      },
      [base, name, files, posts, ids],
    );
    await page.close();
    return figures;
  };
  for (const name of NAMES) await run(name); // fills the cache
  const close = async () => {
    await context.close();
    server.close();
    await rm(profile, { recursive: true, force: true });
  };
  return { title: `Chromium ${context.browser()?.version() ?? ""}`.trim(), run, close };
}

const place = where === "chromium" ? await inChromium() : await inNode();
const all = [];
for (let round = 0; round < rounds; round++) {
  const figures = { native: native() };
  for (const name of round % 2 ? [...NAMES].reverse() : NAMES) figures[name] = await place.run(name);
  all.push(figures);
}
await place.close();

const sorted = (values) => [...values].sort((a, b) => a - b);
const median = (values) => sorted(values)[Math.floor(values.length / 2)];
const range = (values, digits) => `${median(values).toFixed(digits)} (${sorted(values)[0].toFixed(digits)} to ${sorted(values).at(-1).toFixed(digits)})`;
const megabytes = (bytes) => (bytes ? `${(bytes / 1e6).toFixed(0)} MB` : "");
console.log(`\n${place.title}, ${cpus()[0].model}, ${posts.length} posts, ${rounds} rounds in turns; medians (and ranges)\n`);
console.log("| | posts/s | load to first score, ms | most memory of the process | the engine's own memory |\n|---|---|---|---|---|");
for (const name of NAMES) {
  const of = (key) => all.map((figures) => figures[name][key]);
  const title = name === "coldread" ? "coldread" : `onnxruntime-web, ${name}, batches of ${median(of("batch"))}`;
  console.log(`| ${title} | ${range(of("cpu").map((s) => posts.length / s), 0)} | ${range(of("first_ms"), 0)} | ${megabytes(median(of("peak")))} | ${megabytes(median(of("held")))} |`);
}
console.log(`| native, AVX2 | ${range(all.map((figures) => posts.length / figures.native), 0)} | | | |`);
const faster = all.map(({ coldread, ...others }) => Math.min(others.int8.cpu, others["int8-fused"].cpu) / coldread.cpu);
console.log(`\nbeside the faster onnxruntime-web: ${range(faster, 2)} times as fast; of native AVX2: ${range(all.map((f) => f.native / f.coldread.cpu), 2)}`);
