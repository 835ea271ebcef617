// The engines, in Node.js and in a page alike: each goes from nothing to its first score, and then scores all posts.

/** Times an engine: `{ first_ms, wall, cpu }`, where the times are seconds for all posts. */
export async function measure(name, files, posts, ids, cpuSeconds) {
  const start = performance.now();
  const engine = await ENGINES[name](files, name);
  await engine.score([0], posts, ids);
  const first_ms = performance.now() - start;
  const all = posts.map((_, index) => index).sort((a, b) => ids[a].length - ids[b].length);
  const some = all.filter((_, index) => index % 4 === 0);
  // Also the warm-up, after which the engine's code is optimized.
  let best = { seconds: Infinity };
  for (const size of engine.batches) {
    await run(engine, some, size, posts, ids);
    const begin = performance.now();
    await run(engine, some, size, posts, ids);
    const seconds = performance.now() - begin;
    if (seconds < best.seconds) best = { size, seconds };
  }
  const [begin, before] = [performance.now(), cpuSeconds()];
  await run(engine, all, best.size, posts, ids);
  const wall = (performance.now() - begin) / 1e3;
  return { first_ms, wall, cpu: cpuSeconds() - before, batch: best.size, held: engine.held?.() };
}

async function run(engine, order, size, posts, ids) {
  for (let first = 0; first < order.length; first += size) {
    await engine.score(order.slice(first, first + size), posts, ids);
  }
}

const ENGINES = { coldread, int8: onnxruntime, "int8-fused": onnxruntime };

async function coldread({ coldread }) {
  const { load } = await import(coldread);
  const classifier = await load();
  return {
    batches: [256],
    held: () => classifier.memoryBytes,
    score: (chosen, posts) => classifier.classify(chosen.map((index) => posts[index])),
  };
}

// It gets the token ids for nothing, and posts sorted by length.
async function onnxruntime({ ort: library, wasm, onnx }, variant) {
  const ort = await import(library);
  ort.env.wasm.numThreads = 1;
  if (wasm) ort.env.wasm.wasmPaths = wasm;
  const session = await ort.InferenceSession.create(`${onnx}/${variant}.onnx`, {
    executionProviders: ["wasm"],
    graphOptimizationLevel: "all",
  });
  return {
    batches: [1, 8, 32],
    async score(chosen, _posts, ids) {
      const shape = [chosen.length, Math.max(...chosen.map((index) => ids[index].length))];
      const input = new BigInt64Array(shape[0] * shape[1]);
      const mask = new BigInt64Array(input.length);
      chosen.forEach((index, row) =>
        ids[index].forEach((id, column) => {
          input[row * shape[1] + column] = BigInt(id);
          mask[row * shape[1] + column] = 1n;
        }),
      );
      const tensor = (data) => new ort.Tensor("int64", data, shape);
      await session.run({ input_ids: tensor(input), attention_mask: tensor(mask) });
    },
  };
}
