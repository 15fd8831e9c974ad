/** What a document stands for: ComfyUI's API format, without modes and definitions.  Nothing here is recursive. */

import { boundary, counted, declared, rows, socketsOfType, type Sockets, type SocketsOf } from "./catalogue";
import { inputsOf, isLink, metaOf, natural, type Definition, type Document, type Entry, type Graph } from "./document";
import { own, type Json, type JsonObject } from "./json";
import { ANY, alike } from "./wires";

const DEEPEST = 100; // definitions in each other
const MOST_NODES = 100_000; // of a lowered workflow: definitions that hold each other twice double at every level
const INSIDE = "$inputs"; // a definition's inputs, as its nodes see them
const OURS = new Set(["mode", "control", "sockets", "values"]); // of a node's `_meta`
const VIRTUAL = new Set(["Reroute", "PrimitiveNode", "SetNode", "GetNode"]);
const EVERYWHERE = new Set(["Anything Everywhere", "Anything Everywhere?", "Anything Everywhere3", "Prompts Everywhere"]);

/** A document that stands for nothing; the message says why. */
export class CannotLower extends Error {}

/** The nodes that run, by id, in the order of their ids.  Inner ones are called `instance:inner`. */
export function lower(document: Document, sockets: SocketsOf): Map<string, Entry> {
  const flat = new Flat(sockets);
  const waiting: Part[] = [{ prefix: "", graph: document.graph, within: new Set() }];
  for (let part = waiting.pop(); part; part = waiting.pop()) {
    for (const [name, entry] of Object.entries(part.graph)) {
      const inner = flat.take(part, part.prefix + name, entry, own(document.definitions, entry.class_type));
      if (inner) waiting.push(inner);
      if (flat.nodes.size + waiting.length > MOST_NODES) {
        throw new CannotLower(`the workflow has more than ${MOST_NODES} nodes, counting those in definitions`);
      }
    }
  }
  flat.fetch();
  const ids = [...flat.nodes.keys()].sort(natural);
  return new Map(ids.map((id) => [id, flat.wired(flat.nodes.get(id)!)]));
}

/** What a bypassed node gives at an output to an input of type `wire`: what is plugged into the one that fits. */
export function passedOn(slot: number, wire: string, inputs: JsonObject, sockets: Sockets): Json {
  const given = sockets.outputs[slot];
  if (given === undefined) return null;
  const all = counted(sockets);
  const place = all.slice(slot, slot + 1);
  const open = wire === "" || wire === ANY;
  const wanted = open ? given : wire;
  const order = [
    ...place.filter(([, type]) => alike(type, given) && alike(type, wanted)),
    ...(open ? (place.length ? place : all.slice(0, 1)) : []),
    ...all.filter(([, type]) => type === wanted),
    ...all.filter(([, type]) => alike(type, wanted)),
  ];
  const found = order.find(([name]) => isLink(own(inputs, name)));
  return found ? inputs[found[0]]! : null;
}

interface Part {
  readonly prefix: string;
  readonly graph: Graph;
  readonly within: ReadonlySet<string>;
}

/** A node and its output, as a key. */
const place = (id: string, output: number): string => `${output} ${id}`;

/** A workflow while it is lowered. */
class Flat {
  readonly nodes = new Map<string, Entry>(); // those that run, their inputs not yet followed
  private readonly taken = new Set<string>();
  private readonly aliases = new Map<string, Json>(); // outputs that stand for a link, a value or nothing
  private readonly gone = new Set<string>(); // nodes whose outputs without an alias stand for nothing
  private readonly defaults = new Map<string, Json>(); // of what definitions take in
  private readonly unset = new Set<string>(); // what they are given nothing for, and have no default
  private readonly bypassed = new Map<string, readonly [JsonObject, Sockets]>();
  private readonly sent = new Map<string, string>(); // the SetNode of a graph and a name
  private readonly fetched: (readonly [id: string, prefix: string, name: string])[] = [];

  constructor(private readonly sockets: SocketsOf) {}

  /** Take in a node; what is inside, if it is an instance that is open. */
  take({ prefix, within }: Part, id: string, entry: Entry, definition: Definition | undefined): Part | undefined {
    if (this.taken.has(id)) throw new CannotLower(`two nodes are called '${id}'`);
    this.taken.add(id);
    const inputs = Object.fromEntries(Object.entries(inputsOf(entry)).map(([name, value]) => [name, moved(value, prefix)]));
    const mode = own(metaOf(entry), "mode");
    if (!definition || mode === "mute") {
      this.put(prefix, id, entry, inputs);
    } else if (mode === "bypass") {
      this.bypassed.set(id, [inputs, boundarySockets(entry.class_type, definition)]);
    } else {
      check(entry.class_type, definition, within);
      this.open(id, inputs, definition);
      return { prefix: `${id}:`, graph: definition.graph, within: new Set(within).add(entry.class_type) };
    }
    return undefined;
  }

  /** Plug each GetNode into the SetNode of its name, in its own graph or one around it. */
  fetch(): void {
    for (const [id, prefix, name] of this.fetched) {
      const sender = outwards(prefix)
        .map((outer) => this.sent.get(`${outer} ${name}`))
        .find((found) => found !== undefined);
      this.aliases.set(place(id, 0), sender === undefined ? null : [sender, 0]);
    }
  }

  /** A node as it runs. */
  wired(entry: Entry): Entry {
    const wires = new Map((this.sockets(entry.class_type) ?? declared(entry))?.inputs);
    const followed = Object.entries(inputsOf(entry)).map(([name, value]) => [name, this.resolved(value, wires.get(name) ?? ANY)] as const);
    const inputs = Object.fromEntries(followed.filter(([, value]) => value !== null));
    const meta = Object.entries(metaOf(entry)).filter(([name]) => !OURS.has(name));
    const lowered: Entry = { class_type: entry.class_type, inputs };
    return meta.length ? { ...lowered, _meta: Object.fromEntries(meta) } : lowered;
  }

  private put(prefix: string, id: string, entry: Entry, inputs: JsonObject): void {
    const kind = entry.class_type;
    const known = this.sockets(kind);
    const drawn = !known && (VIRTUAL.has(kind) || EVERYWHERE.has(kind));
    const mode = own(metaOf(entry), "mode");
    if (mode === "mute" && !(drawn && kind === "PrimitiveNode")) this.gone.add(id);
    else if (drawn) this.seeThrough(prefix, id, kind, inputs);
    else if (mode === "bypass") this.bypassed.set(id, [inputs, known ?? declared(entry) ?? { inputs: [], outputs: [] }]);
    else this.nodes.set(id, { ...entry, inputs });
  }

  private seeThrough(prefix: string, id: string, kind: string, inputs: JsonObject): void {
    this.gone.add(id);
    if (EVERYWHERE.has(kind)) return;
    this.aliases.set(place(id, 0), own(inputs, "value") ?? null);
    const name = spoken(own(inputs, "name"));
    if (kind === "SetNode") {
      const before = this.sent.get(`${prefix} ${name}`) ?? id;
      this.sent.set(`${prefix} ${name}`, natural(before, id) < 0 ? before : id);
    } else if (kind === "GetNode") {
      this.fetched.push([id, prefix, name]);
    }
  }

  private open(id: string, inputs: JsonObject, definition: Definition): void {
    rows(definition, "inputs").forEach((row, k) => {
      const at = place(`${id}:${INSIDE}`, k);
      const [given, usual] = [own(inputs, String(row.name)), own(row, "default")];
      if (usual !== undefined) this.defaults.set(at, usual);
      if (given === undefined && usual === undefined) this.unset.add(at);
      else this.aliases.set(at, given !== undefined ? given : (usual ?? null));
    });
    rows(definition, "outputs").forEach((row, k) => this.aliases.set(place(id, k), moved(row.from ?? null, `${id}:`)));
  }

  /** Follow a link to a node that runs, a value, or null where there is nothing behind it. */
  private resolved(start: Json, wire: string): Json {
    const seen = new Set<string>();
    let value = start;
    let usual: Json = null;
    while (isLink(value) && !this.nodes.has(value[0])) {
      const at = place(value[0], value[1]);
      if (seen.has(at)) return null;
      seen.add(at);
      usual = this.defaults.get(at) ?? usual;
      if (this.unset.has(at)) return usual;
      const bypass = this.bypassed.get(value[0]);
      if (bypass) value = passedOn(value[1], wire, ...bypass);
      else if (this.aliases.has(at) || this.gone.has(value[0])) value = this.aliases.get(at) ?? null;
      else return value; // a link to nowhere: validation says so
    }
    return value;
  }
}

function check(kind: string, definition: Definition, within: ReadonlySet<string>): void {
  if (within.has(kind)) throw new CannotLower(`the definition '${String(own(definition, "name") ?? kind)}' contains itself`);
  if (within.size === DEEPEST) throw new CannotLower(`definitions stand in each other more than ${DEEPEST} deep`);
}

const boundarySockets = (kind: string, definition: Definition): Sockets => ({
  ...socketsOfType(boundary(kind, definition)),
  inputs: boundary(kind, definition).inputs.map((spec) => [spec.name, spec.wire] as const),
});

const moved = (value: Json, prefix: string): Json => (isLink(value) ? [prefix + value[0], value[1]] : value);

const spoken = (value: Json | undefined): string => (typeof value === "string" ? value : JSON.stringify(value ?? null));

/** A graph, as what its nodes' ids begin with, and those around it. */
function outwards(prefix: string): string[] {
  const found = [""];
  for (let end = prefix.indexOf(":"); end >= 0; end = prefix.indexOf(":", end + 1)) found.unshift(prefix.slice(0, end + 1));
  return found;
}
