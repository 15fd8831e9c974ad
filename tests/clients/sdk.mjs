// Draws a workflow through @saintno/comfyui-sdk, as its README does, and tells what came of it as JSON.
import { CallWrapper, ComfyApi, PromptBuilder } from "@saintno/comfyui-sdk";
import { readFileSync, writeFileSync } from "node:fs";

const [host, file, seed, out] = process.argv.slice(2);
const api = await new ComfyApi(host).init().waitForReady();
const workflow = new PromptBuilder(JSON.parse(readFileSync(file, "utf8")), ["seed"], ["images"])
  .setInputNode("seed", "3.inputs.seed")
  .setOutputNode("images", "9")
  .input("seed", Number(seed));
const told = { progress: [], failed: null };
const done = await new CallWrapper(api, workflow)
  .onProgress((info) => told.progress.push([info.value, info.max]))
  .onFailed((error) => (told.failed ??= { message: error.message, cause: error.cause }))
  .run();
if (done) {
  const [image] = done.images.images;
  writeFileSync(out, Buffer.from(await (await api.getImage(image)).arrayBuffer()));
}
const { sampler } = await api.getSamplerInfo();
console.log(JSON.stringify({ ...told, samplers: sampler[0], checkpoints: await api.getCheckpoints(), os: api.osType }));
process.exit(0);
