// Drives the page as a person would: types posts, uploads files, uses the keyboard.
// Fails on anything in the console, and on any request to another host.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const [binary, screenshots, engine] = process.argv.slice(2);
const GOLDEN = fileURLToPath(new URL("../data/golden_posts.jsonl", import.meta.url));
const KEY = "a-key-for-this-test";
const ROWS = 120;

async function serve(env) {
  const server = spawn(binary, ["serve"], {
    env: { PATH: process.env.PATH, COLDREAD_ADDR: "127.0.0.1:0", COLDREAD_LOG: "error", ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  // It ends with this process, however that ends, and does not keep it from ending.
  process.once("exit", () => server.kill());
  const line = await new Promise((resolve, reject) => {
    server.stdout.once("data", (data) => resolve(String(data)));
    server.once("exit", () => reject(new Error("the server ended")));
  });
  server.unref();
  server.stdout.unref();
  return line.match(/http:\S+/)[0];
}

function watch(page, address) {
  const faults = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) faults.push(message.text());
  });
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(`${address}/`) && !/^(data|blob):/.test(url)) faults.push(`asked ${url}`);
  });
  return faults;
}

async function shoot(page, name, fullPage) {
  if (screenshots) await page.screenshot({ path: join(screenshots, `${name}.png`), fullPage });
}

async function narrow(page) {
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(width <= 390, `a phone need not scroll sideways: ${width}`);
}

async function typedPosts(page) {
  await page.getByLabel("Posts, one per line").fill("I love this phone 😍\n\n<b>never</b> again, awful\nit is on friday");
  // By keyboard: out of the text, onto the button, and down.
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Score posts");
  await page.keyboard.press("Enter");
  await page.getByText("3 scored.").waitFor();
  const items = page.locator("#list > li");
  assert.equal(await items.count(), 3);
  assert.equal(await items.nth(0).locator(".label").textContent(), "positive");
  assert.equal(await items.nth(1).locator(".label").textContent(), "negative");
  // Markup in a post is text like any other.
  assert.equal(await items.nth(1).locator(".text").textContent(), "<b>never</b> again, awful");
  for (const i of [0, 1, 2]) {
    const values = await items.nth(i).locator(".value").allTextContents();
    const sum = values.reduce((sum, value) => sum + parseFloat(value), 0);
    assert.ok(values.length === 3 && Math.abs(sum - 100) < 0.5, `${values}`);
  }
  assert.match(await page.locator("#latency").textContent(), /^[\d.]+ ms for 3 posts$/);
  assert.match(await page.locator("#model").textContent(), /^\S+ \(/);
}

async function languages(page) {
  await page.getByLabel("Posts, one per line").fill("the camera of this phone is great\nIch hasse das, nie wieder!\n😡");
  await page.getByRole("button", { name: "Score posts" }).click();
  await page.getByText("3 scored.").waitFor();
  const items = page.locator("#list > li");
  assert.match(await items.nth(0).locator(".note").textContent(), /^English \([\d.]+%\)$/);
  assert.match(await items.nth(1).locator(".note").textContent(), /^German \([\d.]+%\): the model was not trained for it/);
  assert.equal(await items.nth(2).locator(".note").count(), 0);
}

async function downloaded(page) {
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByText("Download results (CSV)").click(),
  ]);
  return (await readFile(await download.path(), "utf8")).trimEnd().split("\r\n");
}

async function uploaded(page, folder, name, text, rows) {
  const path = join(folder, name);
  await writeFile(path, text);
  await page.evaluate(() => {
    window.seen = [];
    const progress = document.getElementById("progress");
    new MutationObserver(() => window.seen.push(progress.value)).observe(progress, { attributes: true });
  });
  await page.locator("#file").setInputFiles(path);
  await page.getByRole("button", { name: "Score file" }).click();
  await page.getByText(`${rows} rows, 0 of them not scored.`).waitFor({ timeout: 300_000 });
  const seen = await page.evaluate(() => window.seen);
  assert.ok(seen.some((value) => value > 0 && value < 1), `the bar moved on the way: ${seen}`);
  assert.ok(await page.locator("#progress").isHidden());
  assert.match(await page.locator("#plot").getAttribute("aria-label"), /positive: \d+/);
  const lines = await downloaded(page);
  assert.equal(lines[0], "row,id,label,score,negative,neutral,positive,language,warnings,error");
  assert.equal(lines.length, rows + 1);
  assert.match(lines[rows], new RegExp(`^${rows},`));
}

// The description: every operation, and a way about by keyboard.
async function description(page, address) {
  await page.goto(`${address}/docs`);
  await page.getByRole("heading", { name: "POST /v1/sentiment" }).waitFor();
  const described = await (await page.request.get(`${address}/openapi.json`)).json();
  const operations = Object.values(described.paths).flatMap(Object.keys).filter((key) => key !== "$ref").length;
  assert.equal(await page.locator("h2 .method").count(), operations);
  const comprehend = page.getByRole("region", { name: "POST /comprehend", exact: true });
  await comprehend.waitFor();
  await page.getByRole("link", { name: "GET /v1/info" }).focus();
  await page.keyboard.press("Enter");
  assert.match(page.url(), /#get-v1-info$/);
  for (const link of await page.locator('main a[href^="#"]').all()) {
    const target = (await link.getAttribute("href")).slice(1);
    assert.ok(await page.evaluate((id) => document.getElementById(id) !== null, target), `#${target}`);
  }
}

async function privateDescription(browser) {
  const address = await serve({ COLDREAD_API_KEYS: KEY, COLDREAD_PRIVATE_DOCS: "true" });
  const page = await browser.newPage({ extraHTTPHeaders: {} });
  await page.route("**/docs*", (route) => route.continue({ headers: { ...route.request().headers(), "x-api-key": KEY } }));
  await page.route("**/page.css", (route) => route.continue({ headers: { ...route.request().headers(), "x-api-key": KEY } }));
  await page.goto(`${address}/docs`);
  await page.getByText("a valid API key is required").waitFor();
  await page.getByText("API key", { exact: true }).click();
  await page.locator("#key").fill(KEY);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "POST /v1/sentiment" }).waitFor();
  await page.close();
}

async function withoutKey(browser) {
  const address = await serve({ COLDREAD_API_KEYS: KEY });
  const page = await browser.newPage();
  await page.goto(address);
  await page.getByLabel("Posts, one per line").fill("good");
  await page.getByRole("button", { name: "Score posts" }).click();
  await page.getByText("a valid API key is required").waitFor();
  await page.locator("#key").fill(KEY);
  await page.getByRole("button", { name: "Score posts" }).click();
  await page.getByText("1 scored.").waitFor();
  await page.close();
}

// What the page shows and hands out of the golden posts, apart from their languages.
async function golden(page) {
  await page.locator("#file").setInputFiles(GOLDEN);
  await page.getByRole("button", { name: "Score file" }).click();
  await page.getByText(/^\d+ rows, \d+ of them not scored.$/).waitFor();
  const bars = await page.locator("#list .bars").evaluateAll((all) => all.map((bars) => bars.innerHTML));
  const rows = (await downloaded(page)).map((line) => line.split(","));
  const columns = rows[0].flatMap((name, i) => (["language", "warnings"].includes(name) ? [] : [i]));
  return { status: await page.locator("#status").textContent(), bars, rows: rows.map((row) => columns.map((i) => row[i])) };
}

// In the tab: the server's digits and bars, and nothing sent.
async function inTab(browser) {
  const address = await serve({ COLDREAD_WEB_ENGINE: engine });
  const page = await browser.newPage({ viewport: { width: 900, height: 700 } });
  page.setDefaultTimeout(120_000);
  const faults = watch(page, address);
  await page.goto(address);
  const expected = await golden(page);
  assert.ok(expected.rows.length > 100 && expected.bars.length > 100);
  const asked = [];
  page.on("request", (request) => /^(data|blob):/.test(request.url()) || asked.push(`${request.method()} ${request.url()}`));
  await page.getByLabel(/no post leaves this page; the model is loaded once \(\d+ MB\)/).check();
  const scored = await golden(page);
  assert.equal(scored.status, expected.status);
  expected.rows.forEach((row, i) => assert.deepEqual(scored.rows[i], row));
  expected.bars.forEach((bars, i) => assert.equal(scored.bars[i], bars, `post ${i}`));
  const files = asked.map((request) => request.match(/^GET \S+\/package\/[0-9a-f]{16}\/([^/]+)$/)?.[1] ?? request);
  assert.ok(files.includes("tab.js") && files.every((name) => /^(tab|worker|coldread)\.js$|\.wasm$|^default\.coldread$/.test(name)), `${files}`);
  asked.length = 0;
  await page.getByLabel("Posts, one per line").fill("I love this phone 😍\n<b>never</b> again, awful\nit is on friday");
  await page.getByRole("button", { name: "Score posts" }).click();
  await page.getByText("3 scored.").waitFor();
  assert.match(await page.locator("#latency").textContent(), /^[\d.]+ ms for 3 posts, in this tab$/);
  assert.deepEqual(asked, []);
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await shoot(page, `tab-${colorScheme}`, true);
  }
  await page.setViewportSize({ width: 390, height: 800 });
  await narrow(page);
  await shoot(page, "tab-narrow", false);
  // And back.
  await page.locator("#in-tab").uncheck();
  await page.getByRole("button", { name: "Score posts" }).click();
  await page.getByText(/^[\d.]+ ms for 3 posts$/).waitFor();
  assert.deepEqual(asked.map((request) => request.replace(address, "")), ["POST /v1/sentiment?detect_language=true"]);
  assert.deepEqual(faults, []);
  await page.close();
}

async function inTabWithKey(browser) {
  const address = await serve({ COLDREAD_WEB_ENGINE: engine, COLDREAD_API_KEYS: KEY });
  const page = await browser.newPage();
  await page.goto(address);
  await page.locator("#in-tab").check();
  await page.getByLabel("Posts, one per line").fill("good");
  await page.getByRole("button", { name: "Score posts" }).click();
  await page.getByText("the model requires a valid API key").waitFor();
  await page.locator("#key").fill(KEY);
  await page.getByRole("button", { name: "Score posts" }).click();
  await page.getByText("1 scored.").waitFor();
  await page.close();
}

const address = await serve({});
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: process.getuid() === 0 ? ["--no-sandbox"] : [],
});
const folder = await mkdtemp(join(tmpdir(), "coldread-page-"));
try {
  const page = await browser.newPage({ viewport: { width: 900, height: 700 } });
  page.setDefaultTimeout(120_000);
  const faults = watch(page, address);
  await page.goto(address);
  await page.emulateMedia({ colorScheme: "light" });
  assert.ok(await page.locator("#where").isHidden(), "this server has no package");
  await typedPosts(page);
  await shoot(page, "light", true);
  await languages(page);
  const posts = ["what a wonderful day", "never again, awful", "the meeting is on friday"];
  const rows = Array.from({ length: ROWS }, (_, i) => `${posts[i % 3]} ${i}`);
  await uploaded(page, folder, "posts.txt", rows.join("\n"), ROWS);
  await uploaded(page, folder, "posts.csv", `id,text\n${rows.map((row, i) => `${i},"${row}"`).join("\n")}\n`, ROWS);
  await page.emulateMedia({ colorScheme: "dark" });
  await page.setViewportSize({ width: 390, height: 800 });
  await shoot(page, "dark", false);
  await narrow(page);
  await description(page, address);
  await shoot(page, "docs-dark", false);
  await narrow(page);
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 900, height: 700 });
  await shoot(page, "docs-light", true);
  assert.deepEqual(faults, []);
  await withoutKey(browser);
  await privateDescription(browser);
  if (engine) {
    await inTab(browser);
    await inTabWithKey(browser);
  }
  console.log("the page does what it should");
} finally {
  await browser.close();
  await rm(folder, { recursive: true });
}
