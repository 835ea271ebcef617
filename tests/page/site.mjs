// The static page: scores in the tab alone, with the digits of the native program.
// node site.mjs BINARY SITE [SCREENSHOT-FOLDER]
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join } from "node:path";
import { chromium } from "playwright-core";

const [binary, site, screenshots] = process.argv.slice(2);
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".wasm": "application/wasm" };
const POSTS = ["I love this phone 😍", "<b>never</b> again, awful", "it is on friday"];

const asked = [];
const server = createServer(async (request, response) => {
  asked.push(`${request.method} ${request.url}`);
  const path = request.url === "/" ? "/index.html" : request.url;
  const body = await readFile(join(site, path)).catch(() => undefined);
  response.writeHead(body ? 200 : 404, { "content-type": TYPES[extname(path)] ?? "application/octet-stream" });
  response.end(body);
}).listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));
const address = `http://127.0.0.1:${server.address().port}`;
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: process.getuid() === 0 ? ["--no-sandbox"] : [],
});

async function upload(page, name, text, message) {
  await page.locator("#file").setInputFiles({ name, mimeType: "text/plain", buffer: Buffer.from(text) });
  await page.getByRole("button", { name: "Score file" }).click();
  await page.getByText(message).waitFor();
}

try {
  const page = await browser.newPage({ viewport: { width: 900, height: 700 } });
  page.setDefaultTimeout(120_000);
  const faults = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && faults.push(message.text()));
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("request", (request) => request.url().startsWith(address) || /^(data|blob):/.test(request.url()) || faults.push(request.url()));
  await page.goto(address);
  await page.getByText("nothing leaves this page").first().waitFor();
  await page.getByLabel("Posts, one a line").fill(POSTS.join("\n"));
  await page.getByRole("button", { name: "Score posts" }).click();
  await page.getByText("3 scored.").waitFor();

  const [download] = await Promise.all([page.waitForEvent("download"), page.getByText("Download results (CSV)").click()]);
  const rows = (await readFile(await download.path(), "utf8")).trimEnd().split("\r\n").slice(1);
  const native = execFileSync(binary, ["score", "--output", "jsonl", ...POSTS], { encoding: "utf8" });
  const expected = native.trimEnd().split("\n").map((line, i) => {
    const { label, score, scores } = JSON.parse(line);
    return [i + 1, "", label, score, ...Object.values(scores), ""].join(",");
  });
  assert.deepEqual(rows, expected);

  const loaded = asked.length;
  await upload(page, "posts.csv", 'id,text\r\n1,"so ""good"",\nreally"\r\n2,so bad\r\n', "2 rows, 0 of them not scored.");
  assert.equal(await page.locator("#list .text").first().textContent(), 'so "good",\nreally');
  await upload(page, "posts.jsonl", '{"text": "so good"}\n"so bad"\n{"text": " "}\n', "3 rows, 1 of them not scored.");
  await upload(page, "posts.txt", "so good\n\nso bad\n", "2 rows, 0 of them not scored.");
  await upload(page, "posts.csv", "id,post\n1,a\n", "the file has no column");
  await upload(page, "posts.csv", 'text\n"a', "do not match");
  assert.deepEqual(asked.slice(loaded), [], "posts leave no trace on the network");

  await page.getByRole("button", { name: "Score posts" }).click();
  await page.getByText("3 scored.").waitFor();
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    if (screenshots) await page.screenshot({ path: join(screenshots, `site-${colorScheme}.png`), fullPage: true });
  }
  assert.deepEqual(faults, []);
  console.log("the static page does what it should");
} finally {
  await browser.close();
  server.close();
}
