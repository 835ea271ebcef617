// Renders this server's openapi.json. This script has no knowledge of the API of its own.
"use strict";

const $ = (id) => document.getElementById(id);

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Text in which backticks mark code.
function prose(text) {
  const parts = String(text ?? "").split("`");
  return element("p", {}, ...parts.map((part, i) => (i % 2 ? element("code", { textContent: part }) : part)));
}

const code = (text) => element("code", { textContent: text });
const anchor = (...parts) => parts.join("-").replaceAll(/[^\w]+/g, "-").replace(/^-|-$/g, "").toLowerCase();

let api = null;

function resolve(thing) {
  const keys = thing?.$ref?.slice(2).split("/").map((key) => decodeURIComponent(key).replaceAll("~1", "/").replaceAll("~0", "~"));
  const target = keys?.reduce((found, key) => found?.[key], api);
  return target ?? thing;
}

// A schema in one line: its name, or its type.
function brief(schema) {
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return element("a", { href: `#${anchor("schema", name)}` }, code(name));
  }
  for (const [key, between] of [["oneOf", " or "], ["anyOf", " or "], ["allOf", " and "]]) {
    if (schema[key]) {
      const parts = schema[key].flatMap((part, i) => (i ? [between, brief(part)] : [brief(part)]));
      return element("span", {}, ...parts);
    }
  }
  if (schema.title) return element("span", { textContent: schema.title });
  if (schema.enum) return element("span", {}, ...schema.enum.flatMap((value, i) => [i ? ", " : "", code(JSON.stringify(value))]));
  const type = [schema.type ?? "anything"].flat().join(" or ");
  const items = schema.items ? [" of ", brief(schema.items)] : [];
  return element("span", {}, type, ...items, bounds(schema));
}

function bounds(schema) {
  const names = { minimum: "at least", maximum: "at most", minItems: "at least", maxItems: "at most", pattern: "matches" };
  const present = Object.entries(names).filter(([key]) => schema[key] !== undefined);
  return present.length ? ` (${present.map(([key, words]) => `${words} ${schema[key]}`).join(", ")})` : "";
}

function table(caption, head, rows) {
  if (rows.length === 0) return null;
  const cell = (name) => (content) => element(name, name === "th" ? { scope: "col" } : {}, content ?? "");
  return element("div", { className: "wide", tabIndex: 0, role: "region", ariaLabel: caption },
    element("table", {},
      element("caption", { textContent: caption }),
      element("thead", {}, element("tr", {}, ...head.map(cell("th")))),
      element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell("td"))))),
    ));
}

function properties(schema) {
  const rows = Object.entries(schema.properties ?? {}).map(([name, property]) => [
    code(name),
    brief(property),
    (schema.required ?? []).includes(name) ? "always" : "",
    prose(property.description),
  ]);
  return table("Fields", ["field", "type", "present", ""], rows);
}

function shape(schema) {
  const parts = ["oneOf", "anyOf", "allOf"].flatMap((key) => schema[key] ?? []);
  return element("div", {},
    schema.description ? prose(schema.description) : null,
    schema.properties ? properties(schema) : parts.length ? null : element("p", {}, brief(schema)),
    ...parts.map((part) => (part.$ref ? element("p", {}, brief(part)) : element("div", {}, part.title ? element("h4", { textContent: part.title }) : null, shape(part)))),
  );
}

function example(content) {
  const values = content.examples ? Object.values(content.examples).map(({ value }) => value) : [content.example];
  return values
    .filter((value) => value !== undefined)
    .map((value) => element("pre", { tabIndex: 0 }, code(typeof value === "string" ? value : JSON.stringify(value))));
}

const contents = (content, heading) =>
  Object.entries(content ?? {}).map(([media, { schema, ...rest }]) =>
    element("details", { open: heading === "Request" },
      element("summary", {}, code(media), " ", schema.$ref ? brief(schema) : ""),
      schema.$ref ? null : shape(schema),
      ...example(rest)));

function parameters(caption, list) {
  const rows = list.map(resolve).map((it) => [code(it.name), it.in, brief(it.schema), prose(it.description)]);
  return table(caption, ["name", "in", "type", ""], rows);
}

function reply([status, response]) {
  const headers = Object.entries(response.headers ?? {}).map(([name, header]) => [code(name), prose(resolve(header).description)]);
  return element("details", { open: status === "200" },
    element("summary", {}, element("strong", { textContent: status }), ` ${response.description}`),
    ...contents(response.content, "Reply"),
    table("Headers", ["header", ""], headers));
}

function operation(path, method, it, others) {
  const id = anchor(method, path);
  const keys = (it.security ?? []).length > 0;
  const also = others.length ? prose(`Also at ${others.map((other) => `\`${other}\``).join(", ")}.`) : null;
  return element("section", { id, ariaLabel: `${method.toUpperCase()} ${path}` },
    element("h2", {}, element("span", { className: "method", textContent: method.toUpperCase() }), " ", code(path)),
    prose(it.summary),
    also,
    it.description ? prose(it.description) : null,
    keys ? prose("Requires an API key.") : null,
    parameters("Parameters", it.parameters ?? []),
    it.requestBody ? element("h3", { textContent: "Request" }) : null,
    ...contents(it.requestBody?.content, "Request"),
    element("h3", { textContent: "Responses" }),
    ...Object.entries(it.responses).sort(([a], [b]) => a - b).map(reply));
}

function section(title, ...children) {
  const id = anchor(title);
  return element("section", { id, ariaLabel: title }, element("h2", { textContent: title }), ...children);
}

function show() {
  $("title").textContent = `${api.info.title} ${api.info.version}`;
  $("about").textContent = api.info.description;
  const parts = api.components;
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths).filter(([, item]) => !item.$ref)) {
    const others = Object.keys(api.paths).filter((other) => resolve(api.paths[other]) === item && other !== path);
    for (const [method, it] of Object.entries(item)) {
      const group = it.tags?.join(", ");
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push(operation(path, method, it, others));
    }
  }
  const sections = [];
  sections.push(section("Headers for any request", parameters("Headers", Object.values(parts.parameters))));
  const limits = Object.entries(api["x-limits"]).map(([name, value]) => [code(name), value.toLocaleString("en")]);
  sections.push(section("Limits", table("Limits of this server", ["limit", ""], limits)));
  const keys = Object.values(parts.securitySchemes).map((it) => [it.type === "http" ? code(`Authorization: ${it.scheme}`) : code(it.name), it.in ?? "header"]);
  sections.push(section("API keys", table("Ways to send a key", ["name", "in"], keys)));
  sections.push(section("Schemas", ...Object.entries(parts.schemas).map(([name, schema]) =>
    element("section", { id: anchor("schema", name) }, element("h3", {}, code(name)), shape(schema)))));
  $("sections").replaceChildren(...[...groups.values()].flat(), ...sections);
  const link = (it) => element("li", {}, element("a", { href: `#${it.id}`, textContent: it.ariaLabel }));
  $("contents").replaceChildren(
    ...[...groups].map(([group, list]) => element("li", {}, group, element("ul", {}, ...list.map(link)))),
    ...sections.map(link));
}

async function load() {
  const key = $("key").value.trim();
  const reply = await fetch("openapi.json", { headers: key ? { "x-api-key": key } : {} });
  if (reply.status === 401) $("key-box").hidden = false;
  const body = await reply.json();
  if (!reply.ok) throw new Error(body.error.message);
  api = body;
  $("error").textContent = "";
  show();
}

const start = () => load().catch((error) => { $("error").textContent = `Failed: ${error.message}`; });
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
start();
