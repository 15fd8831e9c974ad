/** A small catalogue and graph that tests read at a glance; and files of the repository. */

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

import type { Catalogue, InputSpec, NodeType } from "../src/core/catalogue";
import { fromJson, type Document } from "../src/core/document";
import type { Json } from "../src/core/json";

export const ROOT = join(import.meta.dirname, "../..");

export const texts = (folder: string): (readonly [name: string, text: string])[] =>
  readdirSync(join(ROOT, folder))
    .filter((name) => name.endsWith(".json"))
    .map((name) => [name, readFileSync(join(ROOT, folder, name), "utf8")] as const);

/** `kind("Blur", {image: "IMAGE", radius: 2}, ["IMAGE"])`: inputs that are no text are widgets. */
export function kind(id: string, inputs: Record<string, string | number>, outputs: string[], more: Partial<NodeType> = {}): NodeType {
  const specs = Object.entries(inputs).map(
    ([name, said]): InputSpec =>
      typeof said === "string"
        ? { name, wire: said, widget: false, help: "" }
        : { name, wire: "INT", widget: true, help: "", default: said, ...(name === "seed" ? { seed: true } : {}) },
  );
  const rows = outputs.map((wire) => ({ name: wire.toLowerCase(), wire }));
  return { id, title: id, category: "test", help: "", output_node: false, inputs: specs, outputs: rows, ...more };
}

export const CATALOGUE: Catalogue = Object.fromEntries(
  [
    kind("Open", { seed: 1 }, ["IMAGE", "MASK"]),
    kind("Blur", { image: "IMAGE", radius: 2 }, ["IMAGE"]),
    kind("Cut", { mask: "MASK", image: "IMAGE" }, ["IMAGE"]),
    kind("Save", { image: "IMAGE" }, [], { output_node: true }),
  ].map((type) => [type.id, type]),
);

/** open -> blur -> save */
export const CHAIN: Document = document({
  open: { class_type: "Open", inputs: { seed: 7 } },
  blur: { class_type: "Blur", inputs: { image: ["open", 0], radius: 3 } },
  save: { class_type: "Save", inputs: { image: ["blur", 0] } },
});

export function document(graph: Json, more: Record<string, Json> = {}): Document {
  return fromJson({ limner: 1, graph, ...more });
}

/** Numbers from 0 up to 1, the same for the same seed (mulberry32). */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
