// Evaluates a file of `nstx export gradient` with onnxruntime-web (WebAssembly), under Node.
//
//   npm install onnxruntime-web
//   node gradient.mjs MODEL.onnx INPUTS.json OUTPUTS.json
//
// INPUTS.json and OUTPUTS.json hold, by name, {"dims": [...], "data": [...]}, all float32.
import { readFileSync, writeFileSync } from "node:fs";
import * as ort from "onnxruntime-web";

const [model, inputs, outputs] = process.argv.slice(2);
const session = await ort.InferenceSession.create(readFileSync(model), {
  executionProviders: ["wasm"],
});
const feeds = {};
for (const [name, { dims, data }] of Object.entries(JSON.parse(readFileSync(inputs, "utf8")))) {
  feeds[name] = new ort.Tensor("float32", Float32Array.from(data), dims);
}
const found = {};
for (const [name, { dims, data }] of Object.entries(await session.run(feeds))) {
  found[name] = { dims, data: Array.from(data) };
}
writeFileSync(outputs, JSON.stringify(found));
