/** The node types that the server has, as GET /limner/nodes describes them. */

import { inputsOf, isLink, metaOf, objectAt, type Definition, type Document, type Entry } from "./document";
import { isList, isObject, own, type Json, type JsonObject } from "./json";
import { ANY } from "./wires";

export interface InputSpec {
  readonly name: string;
  readonly wire: string;
  readonly widget: boolean;
  readonly help: string;
  readonly default?: Json;
  readonly min?: number;
  readonly max?: number;
  readonly step?: number;
  readonly options?: readonly Json[];
  readonly multiline?: boolean;
  readonly seed?: boolean;
  readonly models?: string;
  readonly files?: string;
}

export interface OutputSpec {
  readonly name: string;
  readonly wire: string;
}

export interface NodeType {
  readonly id: string;
  readonly title: string;
  readonly category: string;
  readonly help: string;
  readonly output_node: boolean;
  readonly inputs: readonly InputSpec[];
  readonly outputs: readonly OutputSpec[];
  readonly missing?: boolean; // nobody knows it: a placeholder that keeps what the file says
}

export type Catalogue = { readonly [id: string]: NodeType };

/** What has to be known of a type to lower a graph. */
export interface Sockets {
  readonly inputs: readonly (readonly [name: string, wire: string])[]; // required ones before optional ones
  readonly outputs: readonly string[];
  readonly widgets?: readonly string[];
}
export type SocketsOf = (type: string) => Sockets | undefined;

/** The type of a node: the catalogue's, that of a definition, or what its own entry lets one guess. */
export function typeOf(entry: Entry, document: Document, catalogue: Catalogue): NodeType {
  const definition = own(document.definitions, entry.class_type);
  if (definition) return boundary(entry.class_type, definition);
  return own(catalogue, entry.class_type) ?? DRAWN[entry.class_type] ?? placeholder(entry);
}

/** The sockets of the catalogue's types. */
export function socketsIn(catalogue: Catalogue): SocketsOf {
  return (id) => {
    const type = own(catalogue, id);
    return type && socketsOfType(type);
  };
}

/** Whether an input may be left alone without the result depending on it. */
export const isOptional = (spec: InputSpec): boolean => spec.default === null;

/** A definition as the type of its instances. */
export function boundary(id: string, definition: Definition): NodeType {
  const inputs = rows(definition, "inputs").map((row) => ({
    name: text(row, "name", ""),
    wire: text(row, "type", ANY),
    widget: own(row, "widget") === undefined ? Object.hasOwn(row, "default") : own(row, "widget") === true,
    help: "",
    default: own(row, "default") ?? null,
  }));
  const outputs = rows(definition, "outputs").map((row) => ({ wire: text(row, "type", ANY), name: text(row, "name", text(row, "type", ANY)) }));
  const title = text(definition, "name", id);
  return { id, title, category: text(definition, "category", ""), help: text(definition, "description", ""), output_node: false, inputs, outputs };
}

/** What a node brought along because its type was not known where it was read. */
export function declared(entry: Entry): Sockets | undefined {
  const said = own(metaOf(entry), "sockets");
  if (!isObject(said)) return undefined;
  return { inputs: pairs(own(said, "inputs")), outputs: pairs(own(said, "outputs")).map(([, wire]) => wire) };
}

/** The inputs in the order in which a bypassed node counts them: sockets before widgets. */
export function counted(sockets: Sockets): readonly (readonly [string, string])[] {
  const typed = new Set(sockets.widgets);
  return [...sockets.inputs.filter(([name]) => !typed.has(name)), ...sockets.inputs.filter(([name]) => typed.has(name))];
}

export function socketsOfType(type: NodeType): Sockets {
  const inputs = [...type.inputs.filter((spec) => !isOptional(spec)), ...type.inputs.filter(isOptional)];
  return {
    inputs: inputs.map((spec) => [spec.name, spec.wire] as const),
    outputs: type.outputs.map((output) => output.wire),
    widgets: inputs.filter((spec) => spec.widget).map((spec) => spec.name),
  };
}

/** A definition's `inputs` or `outputs`. */
export function rows(definition: Definition, name: string): readonly JsonObject[] {
  const found = own(definition, name);
  return isList(found) ? found.filter(isObject) : [];
}

const DRAWN: { readonly [id: string]: NodeType } = Object.assign(Object.create(null) as object, {
  Reroute: drawn("Reroute", [anything("value", false)], true),
  PrimitiveNode: drawn("PrimitiveNode", [anything("value", true)], true),
  SetNode: drawn("SetNode", [anything("value", false), named()], true),
  GetNode: drawn("GetNode", [named()], true),
});

function drawn(id: string, inputs: InputSpec[], gives: boolean): NodeType {
  const outputs = gives ? [{ name: "", wire: ANY }] : [];
  return { id, title: id.replace("Node", ""), category: "", help: "", output_node: false, inputs, outputs };
}

function anything(name: string, widget: boolean): InputSpec {
  return { name, wire: ANY, widget, help: "", default: null };
}

function named(): InputSpec {
  return { name: "name", wire: "STRING", widget: true, help: "", default: "" };
}

function placeholder(entry: Entry): NodeType {
  const brought = declared(entry);
  const wires = new Map(brought?.inputs);
  const names = [...new Set([...wires.keys(), ...Object.keys(inputsOf(entry))])];
  const inputs = names.map((name) => {
    const widget = !wires.has(name) && !isLink(inputsOf(entry)[name]);
    return { name, wire: wires.get(name) ?? ANY, widget, help: "", default: null };
  });
  const outputs = pairs(own(objectAt(metaOf(entry), "sockets"), "outputs")).map(([name, wire]) => ({ name, wire }));
  return { id: entry.class_type, title: entry.class_type, category: "", help: "", output_node: false, inputs, outputs, missing: true };
}

function pairs(found: Json | undefined): (readonly [string, string])[] {
  const lists = isList(found) ? found.filter((row) => isList(row) && row.length === 2) : [];
  return lists.map((row) => [String((row as Json[])[0]), String((row as Json[])[1])] as const);
}

function text(row: JsonObject, name: string, otherwise: string): string {
  const found = own(row, name);
  return typeof found === "string" ? found : otherwise;
}
