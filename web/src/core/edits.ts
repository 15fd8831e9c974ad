/** What a person does to a document, as functions from one document to the next.  What they change nothing about is shared. */

import { typeOf, type Catalogue, type InputSpec, type NodeType } from "./catalogue";
import { inputsOf, isLink, metaOf, nodeId, objectAt, type Document, type Entry, type Link, type Mode, type NodeId, type Value } from "./document";
import { isList, numeric, own, withProperty, type Json, type JsonObject } from "./json";
import { fits } from "./wires";

export interface Point {
  readonly x: number;
  readonly y: number;
}

/** Where a link ends. */
export interface Socket {
  readonly node: NodeId;
  readonly input: string;
}

/** A node of a type that the document does not have yet, with the document. */
export function added(document: Document, type: NodeType, at: Point): readonly [Document, NodeId] {
  const id = freeId(document, type.id);
  const entry: Entry = { class_type: type.id, inputs: {} };
  return [moved({ ...document, graph: { ...document.graph, [id]: entry } }, new Map([[id, at]])), id];
}

/** The document without some nodes.  With `heal`, what was plugged into them is plugged in behind them, where it fits. */
export function removed(document: Document, ids: ReadonlySet<NodeId>, catalogue: Catalogue, heal = false): Document {
  const graph: Record<string, Entry> = {};
  for (const [id, entry] of Object.entries(document.graph)) {
    if (!ids.has(nodeId(id))) graph[id] = unplugged(document, catalogue, nodeId(id), entry, ids, heal);
  }
  const places = Object.entries(objectAt(document.canvas, "nodes")).filter(([id]) => !ids.has(nodeId(id)));
  return withCanvas({ ...document, graph }, "nodes", Object.fromEntries(places));
}

/** The document with an output plugged into an input.  What was typed there is kept behind the link. */
export function connected(document: Document, link: Link, to: Socket): Document {
  const typed = own(inputsOf(entryOf(document, to.node)), to.input);
  const after = withInput(document, to, link);
  return typed === undefined || isLink(typed) ? after : withBehind(after, to, typed);
}

/** The document with nothing plugged into an input: its widget has again what was typed there. */
export function disconnected(document: Document, to: Socket): Document {
  if (!isLink(own(inputsOf(entryOf(document, to.node)), to.input))) return document;
  return withBehind(withInput(document, to, behindOf(document, to)), to, undefined);
}

/** The document with a widget's value. */
export function withValue(document: Document, to: Socket, value: Value): Document {
  return withInput(document, to, isList(value) ? { __value__: value } : value);
}

/** The document with nodes at other places. */
export function moved(document: Document, places: ReadonlyMap<NodeId, Point>): Document {
  const nodes = { ...objectAt(document.canvas, "nodes") };
  for (const [id, { x, y }] of places) nodes[id] = { ...objectAt(nodes, id), at: [Math.round(x), Math.round(y)] };
  return withCanvas(document, "nodes", nodes);
}

/** The document with nodes muted or bypassed, or neither if all of them were. */
export function toggled(document: Document, ids: Iterable<NodeId>, mode: Mode): Document {
  const all = [...ids];
  const on = !all.every((id) => own(metaOf(entryOf(document, id)), "mode") === mode);
  return all.reduce((part, id) => withMeta(part, id, "mode", on ? mode : undefined), document);
}

/** The document with something said of a node that does not enter its result. */
export function withMeta(document: Document, id: NodeId, name: string, value: Json | undefined): Document {
  const entry = entryOf(document, id);
  const meta = withProperty(metaOf(entry), name, value);
  const rest = withProperty(entry as JsonObject, "_meta", Object.keys(meta).length ? meta : undefined);
  return { ...document, graph: { ...document.graph, [id]: rest as Entry } };
}

/** The document with something said of how a node is drawn. */
export function withLook(document: Document, id: NodeId, name: string, value: Json | undefined): Document {
  const nodes = objectAt(document.canvas, "nodes");
  return withCanvas(document, "nodes", { ...nodes, [id]: withProperty(objectAt(nodes, id), name, value) });
}

/** The document with a node put between the ends of a link, or nothing if it does not fit there. */
export function spliced(document: Document, id: NodeId, link: Link, to: Socket, catalogue: Catalogue): Document | undefined {
  const given = wireOf(document, catalogue, link);
  const wanted = specOf(document, catalogue, to)?.wire;
  const type = typeOf(entryOf(document, id), document, catalogue);
  const taken = inputsOf(entryOf(document, id));
  const input = best(type.inputs.filter((spec) => !isLink(own(taken, spec.name))), given);
  const output = wanted === undefined ? -1 : type.outputs.findIndex((row) => fits(row.wire, wanted));
  if (!input || output < 0 || link[0] === id || to.node === id) return undefined;
  const after = connected(connected(document, link, { node: id, input: input.name }), [id, output], to);
  return closesLoop(document, link[0], id) || closesLoop(document, id, to.node) ? undefined : after;
}

/** Why an output may not be plugged into an input; nothing if it may. */
export function refusal(document: Document, catalogue: Catalogue, link: Link, to: Socket): string | undefined {
  const spec = specOf(document, catalogue, to);
  const wire = wireOf(document, catalogue, link);
  if (!spec) return "there is no such input";
  if (!fits(wire, spec.wire)) return `takes ${spec.wire}, not ${wire}`;
  return closesLoop(document, link[0], to.node) ? "would feed the node with its own result" : undefined;
}

/** The input of a node that an output is best plugged into: a free one of the very type before all others. */
export function bestInput(document: Document, catalogue: Catalogue, link: Link, id: NodeId): InputSpec | undefined {
  const entry = entryOf(document, id);
  const open = typeOf(entry, document, catalogue).inputs.filter((spec) => !refusal(document, catalogue, link, { node: id, input: spec.name }));
  const free = open.filter((spec) => !isLink(own(inputsOf(entry), spec.name)));
  const wire = wireOf(document, catalogue, link);
  return best(free, wire) ?? best(open, wire);
}

/** The type of what an output gives. */
export function wireOf(document: Document, catalogue: Catalogue, [id, output]: Link): string {
  const entry = own(document.graph, id);
  return (entry && typeOf(entry, document, catalogue).outputs[output]?.wire) ?? "*";
}

/** What an input takes. */
export function specOf(document: Document, catalogue: Catalogue, { node, input }: Socket): InputSpec | undefined {
  const entry = own(document.graph, node);
  return entry && typeOf(entry, document, catalogue).inputs.find((spec) => spec.name === input);
}

/** Whether `from`'s result, plugged into `to`, would come back to `from`. */
export function closesLoop(document: Document, from: NodeId, to: NodeId): boolean {
  const seen = new Set<string>();
  const waiting: string[] = [from];
  for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
    if (id === to) return true;
    if (seen.has(id)) continue;
    seen.add(id);
    const entry = own(document.graph, id);
    if (entry) waiting.push(...Object.values(inputsOf(entry)).filter(isLink).map((link) => link[0]));
  }
  return false;
}

/** Where a node stands, if that is known. */
export function placeOf(document: Document, id: NodeId): Point | undefined {
  const at = own(objectAt(objectAt(document.canvas, "nodes"), id), "at");
  const [x, y] = isList(at) ? at.map(numeric) : [];
  return x === undefined || y === undefined ? undefined : { x, y };
}

function entryOf(document: Document, id: NodeId): Entry {
  const entry = own(document.graph, id);
  if (!entry) throw new Error(`there is no node '${id}'`);
  return entry;
}

function withInput(document: Document, { node, input }: Socket, value: Json | undefined): Document {
  const entry = entryOf(document, node);
  const inputs = withProperty(inputsOf(entry), input, value);
  return { ...document, graph: { ...document.graph, [node]: { ...entry, inputs } } };
}

const behindOf = (document: Document, { node, input }: Socket): Json | undefined =>
  own(objectAt(objectAt(objectAt(document.canvas, "nodes"), node), "behind"), input);

function withBehind(document: Document, to: Socket, value: Json | undefined): Document {
  const look = objectAt(objectAt(document.canvas, "nodes"), to.node);
  const behind = withProperty(objectAt(look, "behind"), to.input, value);
  if (value === undefined && own(look, "behind") === undefined) return document;
  return withLook(document, to.node, "behind", Object.keys(behind).length ? behind : undefined);
}

function withCanvas(document: Document, name: string, value: JsonObject): Document {
  return { ...document, canvas: withProperty(document.canvas, name, Object.keys(value).length ? value : undefined) };
}

/** A node without its links to nodes that go; with `heal`, with those to what was plugged into them. */
function unplugged(document: Document, catalogue: Catalogue, id: NodeId, entry: Entry, gone: ReadonlySet<NodeId>, heal: boolean): Entry {
  let inputs = inputsOf(entry);
  for (const [name, value] of Object.entries(inputs)) {
    if (!isLink(value) || !gone.has(value[0])) continue;
    const wanted = specOf(document, catalogue, { node: id, input: name })?.wire ?? "*";
    inputs = withProperty(inputs, name, heal ? behind(document, catalogue, value, wanted, gone) : undefined);
  }
  return inputs === inputsOf(entry) ? entry : { ...entry, inputs };
}

/** What is plugged into a node that goes, and could take the place of its output: through all that go with it. */
function behind(document: Document, catalogue: Catalogue, link: Link, wanted: string, gone: ReadonlySet<NodeId>): Link | undefined {
  const seen = new Set<string>();
  let found: Link | undefined = link;
  while (found && gone.has(found[0])) {
    if (seen.has(found[0])) return undefined;
    seen.add(found[0]);
    const links: Link[] = Object.values(inputsOf(entryOf(document, found[0]))).filter(isLink);
    found =
      links.find((candidate) => wireOf(document, catalogue, candidate) === wanted) ??
      links.find((candidate) => fits(wireOf(document, catalogue, candidate), wanted));
  }
  return found;
}

/** Of inputs, the one that takes exactly a type, else the first socket that takes it, else the first widget. */
function best(specs: readonly InputSpec[], wire: string): InputSpec | undefined {
  const open = specs.filter((spec) => fits(wire, spec.wire));
  return open.find((spec) => spec.wire === wire) ?? open.find((spec) => !spec.widget) ?? open[0];
}

/** An id that no node has, made from the type's: `sample`, then `sample-2`. */
function freeId(document: Document, type: string): NodeId {
  const word = (type.split(".").at(-1) ?? type).replace(/[^A-Za-z0-9]+/g, "-").replace(/([a-z0-9])([A-Z])/g, "$1-$2").toLowerCase() || "node";
  let id = word;
  for (let k = 2; Object.hasOwn(document.graph, id); k++) id = `${word}-${k}`;
  return nodeId(id);
}
