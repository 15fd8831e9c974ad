/** What happens to seeds before a run: the value that is shown is the one that was used. */

import { typeOf, type Catalogue, type InputSpec } from "./catalogue";
import { inputsOf, isLink, metaOf, nodeId, type Document, type Entry, type NodeId } from "./document";
import { withMeta, withValue } from "./edits";
import { isObject, numeric, own, withProperty } from "./json";

export const CONTROLS = ["fixed", "increment", "decrement", "randomize"] as const;
export type Control = (typeof CONTROLS)[number];

export const GREATEST = Number.MAX_SAFE_INTEGER; // of the seeds that we make

/** What a node's seed does from run to run. */
export function controlOf(entry: Entry, input: string): Control {
  const said = own(metaOf(entry), "control");
  const word = isObject(said) ? own(said, input) : said;
  return CONTROLS.find((control) => control === word) ?? "fixed";
}

/** The document where the seed `input` of a node does something else from run to run. */
export function withControl(document: Document, id: NodeId, input: string, control: Control): Document {
  const said = own(metaOf(document.graph[id]!), "control");
  const word = control === "fixed" ? undefined : control;
  if (!isObject(said)) return withMeta(document, id, "control", word);
  const words = withProperty(said, input, word);
  return withMeta(document, id, "control", Object.keys(words).length ? words : undefined);
}

/** The document that the next run is of.  `random` gives numbers from 0 up to 1. */
export function advanced(document: Document, catalogue: Catalogue, random: () => number = Math.random): Document {
  let after = document;
  for (const [id, entry] of Object.entries(document.graph)) {
    for (const spec of typeOf(entry, document, catalogue).inputs) {
      const control = spec.seed ? controlOf(entry, spec.name) : "fixed";
      const given = own(inputsOf(entry), spec.name);
      if (control === "fixed" || isLink(given)) continue;
      const seed = numeric(given) ?? numeric(spec.default) ?? 0;
      after = withValue(after, { node: nodeId(id), input: spec.name }, next(seed, control, spec, random));
    }
  }
  return after;
}

function next(seed: number, control: Control, spec: InputSpec, random: () => number): number {
  const greatest = Math.min(spec.max ?? GREATEST, GREATEST);
  if (control === "randomize") return Math.floor(random() * greatest);
  const moved = control === "increment" ? seed + 1 : seed - 1;
  return Math.min(Math.max(moved, 0), greatest);
}
