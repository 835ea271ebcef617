// Drives the page as a person would: types posts, uploads files, uses the keyboard.
// Fails on anything in the console, and on any request to another host.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [binary, screenshots] = process.argv.slice(2);
const KEY = "a-key-for-this-test";
const ROWS = 120;

async function serve(env) {
  const server = spawn(binary, ["serve"], {
    env: { PATH: process.env.PATH, COLDREAD_ADDR: "127.0.0.1:0", COLDREAD_LOG: "error", ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const line = await new Promise((resolve, reject) => {
    server.stdout.once("data", (data) => resolve(String(data)));
    server.once("exit", () => reject(new Error("the server ended")));
  });
  return { server, address: line.match(/http:\S+/)[0] };
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
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByText("Download results (CSV)").click(),
  ]);
  const csv = await readFile(await download.path(), "utf8");
  const lines = csv.trimEnd().split("\r\n");
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
  const { server, address } = await serve({ COLDREAD_API_KEYS: KEY, COLDREAD_PRIVATE_DOCS: "true" });
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
  server.kill("SIGTERM");
}

async function withoutKey(browser) {
  const { server, address } = await serve({ COLDREAD_API_KEYS: KEY });
  const page = await browser.newPage();
  await page.goto(address);
  await page.getByLabel("Posts, one per line").fill("good");
  await page.getByRole("button", { name: "Score posts" }).click();
  await page.getByText("a valid API key is required").waitFor();
  await page.locator("#key").fill(KEY);
  await page.getByRole("button", { name: "Score posts" }).click();
  await page.getByText("1 scored.").waitFor();
  await page.close();
  server.kill("SIGTERM");
}

const { server, address } = await serve({});
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
  console.log("the page does what it should");
} finally {
  await browser.close();
  server.kill("SIGTERM");
  await rm(folder, { recursive: true });
}
