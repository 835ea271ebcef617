// Sentiment of social-media posts: coldread's engine as WebAssembly. See README.md.

const LONG_TEXT = ["truncate", "window", "error"];
// A module of one function that uses a relaxed instruction: engines without them reject it.
const RELAXED = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11,
]);
// One of plain vectors.
const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15, 11,
]);
const WIDEST_CHUNK = 256;
const PIECE_BYTES = 4 << 20;

/** A failure with a stable `code`. */
export class ColdreadError extends Error {
  constructor(code, message, index) {
    super(message);
    this.name = "ColdreadError";
    this.code = code;
    if (index !== undefined) this.index = index;
  }
}

/**
 * Loads a packed model: its address, a `Response`, or its bytes; the package's own unless given.
 * `options.headers` are those of the request to its address. `options.module` is a compiled
 * `WebAssembly.Module` for places that compile ahead (Workers).
 */
export async function load(model, { headers, module } = {}) {
  const instantiating = instantiated(module ?? compiled());
  const opening = open(model ?? new URL("./default.coldread", import.meta.url), headers);
  const receiving = opening.then((source) => received(source, instantiating));
  return new Classifier(...(await Promise.all([instantiating, receiving])));
}

/** Whether this engine has the vector instructions that are needed, and the relaxed ones. */
export function supports() {
  return { simd: WebAssembly.validate(SIMD), relaxed: WebAssembly.validate(RELAXED) };
}

class Classifier {
  #wasm;
  #info;

  constructor(wasm, { pointer, bytes }) {
    this.#wasm = wasm;
    if (!guarded(() => wasm.open(pointer, bytes))) {
      throw new ColdreadError("invalid_model", this.#report().message);
    }
    this.#info = this.#report();
  }

  /** The model's name. */
  get name() {
    return this.#info.name;
  }

  /** Label names, in the order of the scores. */
  get labels() {
    return [...this.#info.labels];
  }

  /** What the kernels run on. */
  get instructionSet() {
    return this.#info.instructionSet;
  }

  /** Bytes of memory that this model and its scratch space hold. */
  get memoryBytes() {
    return this.#open().memory.buffer.byteLength;
  }

  /**
   * Scores one post or an array of them. A single post that cannot be scored throws; among many its
   * place holds the `ColdreadError`.
   */
  classify(posts, { longText = "truncate" } = {}) {
    if (!LONG_TEXT.includes(longText)) {
      throw new ColdreadError("invalid_option", `longText is ${longText}; expected ${LONG_TEXT.join(", ")}`);
    }
    if (typeof posts === "string") {
      const [result] = this.#score([posts], longText);
      if (result instanceof ColdreadError) throw result;
      return result;
    }
    if (!Array.isArray(posts)) {
      throw new ColdreadError("invalid_type", "expected a string or an array of strings");
    }
    const results = [];
    for (let first = 0; first < posts.length; first += WIDEST_CHUNK) {
      results.push(...this.#score(posts.slice(first, first + WIDEST_CHUNK), longText, first));
    }
    return results;
  }

  /** Lets go of the model's memory. */
  dispose() {
    this.#wasm = undefined;
  }

  #open() {
    if (!this.#wasm) throw new ColdreadError("disposed", "this classifier was disposed of");
    return this.#wasm;
  }

  #score(posts, longText, first = 0) {
    const wasm = this.#open();
    const encoder = new TextEncoder(); // half a surrogate pair becomes U+FFFD
    const texts = posts.map((post, index) => {
      if (typeof post === "string") return encoder.encode(post);
      throw new ColdreadError("invalid_type", `post ${first + index} is of type ${typeof post}; expected string`, first + index);
    });
    const bytes = texts.reduce((sum, text) => sum + text.byteLength, 4 * texts.length);
    const pointer = allocate(wasm, bytes);
    const lengths = new DataView(wasm.memory.buffer, pointer);
    let end = pointer + 4 * texts.length;
    texts.forEach((text, index) => {
      lengths.setUint32(4 * index, text.byteLength, true);
      write(wasm, text, end);
      end += text.byteLength;
    });
    if (!guarded(() => wasm.score(pointer, bytes, texts.length, LONG_TEXT.indexOf(longText)))) {
      throw new ColdreadError("engine_failed", this.#report().message);
    }
    return this.#results(texts.length, first);
  }

  #results(count, first) {
    const { labels } = this.#info;
    const { errors, truncated } = this.#report();
    const cut = new Set(truncated);
    const failed = new Map(errors.map(({ index, code, message }) => [index, new ColdreadError(code, message, first + index)]));
    const all = new Float32Array(this.#wasm.memory.buffer, this.#wasm.scores(), count * labels.length);
    return Array.from({ length: count }, (_, index) => {
      if (failed.has(index)) return failed.get(index);
      const row = Array.from(all.subarray(index * labels.length, (index + 1) * labels.length));
      const best = row.indexOf(Math.max(...row));
      const scores = Object.fromEntries(labels.map((label, place) => [label, row[place]]));
      return { label: labels[best], score: row[best], scores, truncated: cut.has(index) };
    });
  }

  #report() {
    const { memory, report, report_bytes } = this.#wasm;
    const json = new Uint8Array(memory.buffer, report() >>> 0, report_bytes());
    return JSON.parse(new TextDecoder().decode(json));
  }
}

function allocate(wasm, bytes) {
  const pointer = guarded(() => wasm.allocate(bytes)) >>> 0;
  if (pointer === 0) throw new ColdreadError("out_of_memory", `no room for ${bytes} bytes`);
  return pointer;
}

function write(wasm, bytes, at) {
  new Uint8Array(wasm.memory.buffer, at, bytes.byteLength).set(bytes);
}

/** A trap of the module, which memory that runs out is, as an error of ours. */
function guarded(call) {
  try {
    return call();
  } catch (error) {
    throw new ColdreadError("engine_failed", `the WebAssembly module stopped: ${error.message}`);
  }
}

async function instantiated(module) {
  const { exports } = await WebAssembly.instantiate(await module, {});
  return exports;
}

let compiling;

function compiled() {
  const { simd, relaxed } = supports();
  if (!simd) {
    throw new ColdreadError("unsupported_engine", "this JavaScript engine has no WebAssembly SIMD");
  }
  const name = relaxed ? "./coldread-relaxed.wasm" : "./coldread.wasm";
  compiling ??= compile(new URL(name, import.meta.url)).catch((error) => {
    compiling = undefined;
    throw error;
  });
  return compiling;
}

async function compile(url) {
  const source = await open(url);
  if (ArrayBuffer.isView(source)) return WebAssembly.compile(source);
  // Browsers keep the machine code of what was compiled as it came.
  if (source.headers.get("content-type") === "application/wasm") return WebAssembly.compileStreaming(source);
  return WebAssembly.compile(await source.arrayBuffer());
}

/** What is at an address, as bytes or as a `Response` whose body is still to come. */
async function open(source, headers) {
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  if (typeof Response !== "undefined" && source instanceof Response) return ok(source);
  const url = source instanceof URL ? source : new URL(String(source), globalThis.location?.href ?? import.meta.url);
  if (url.protocol === "file:") {
    const { readFile } = await import("node:fs/promises");
    return readFile(url).catch((error) => {
      throw new ColdreadError("not_found", `${url}: ${error.message}`);
    });
  }
  return ok(await fetch(url, { headers }).catch((error) => {
    throw new ColdreadError("not_found", `${url}: ${error.message}`);
  }));
}

function ok(response) {
  if (response.ok) return response;
  throw new ColdreadError(response.status === 401 ? "unauthorized" : "not_found", `${response.url}: HTTP ${response.status}`);
}

/** Puts a model into the module's memory, a body piece by piece as it comes: no other copy of it is whole. */
async function received(source, instantiating) {
  const wasm = await instantiating;
  const length = Number(source.byteLength ?? source.headers.get("content-length"));
  const pointer = allocate(wasm, length);
  if (ArrayBuffer.isView(source)) {
    write(wasm, source, pointer);
    return { pointer, bytes: length };
  }
  const read = reader(source.body ?? new Blob([]).stream());
  let written = 0;
  // What has no room, because the body has no `content-length` or was compressed.
  const rest = [];
  for (;;) {
    const { done, value } = await read().catch((error) => {
      throw new ColdreadError("not_found", `${source.url}: ${error.message}`);
    });
    if (done) break;
    if (rest.length === 0 && written + value.byteLength <= length) {
      write(wasm, value, pointer + written);
      written += value.byteLength;
    } else {
      rest.push(value.slice());
    }
  }
  if (rest.length === 0) return { pointer, bytes: written };
  rest.unshift(new Uint8Array(wasm.memory.buffer, pointer, written).slice());
  wasm.release(pointer, length);
  const bytes = rest.reduce((sum, piece) => sum + piece.byteLength, 0);
  const moved = allocate(wasm, bytes);
  let end = moved;
  for (const piece of rest) {
    write(wasm, piece, end);
    end += piece.byteLength;
  }
  return { pointer: moved, bytes };
}

/** Reads a stream's next piece, valid until the next call: into the same buffer where the stream can do that. */
function reader(stream) {
  let buffer = new ArrayBuffer(PIECE_BYTES);
  try {
    const reader = stream.getReader({ mode: "byob" });
    return async () => {
      const result = await reader.read(new Uint8Array(buffer));
      buffer = result.value?.buffer;
      return result;
    };
  } catch {
    const reader = stream.getReader();
    return () => reader.read();
  }
}
