/** The workflow file as data: read, written, and never changed in place.  What is not understood is kept. */

import { byCodePoint, flat, isList, isObject, own, parse, type Json, type JsonObject } from "./json";

declare const brand: unique symbol;
export type NodeId = string & { readonly [brand]: "node" };
export type TypeId = string & { readonly [brand]: "type" };

export const nodeId = (text: string): NodeId => text as NodeId;
export const typeId = (text: string): TypeId => text as TypeId;

/** The output of another node, used as an input. */
export type Link = readonly [node: NodeId, output: number];
export type Value = Json;
export type Inputs = { readonly [name: string]: Value };
export type Mode = "mute" | "bypass";

/** A node as a graph places it. */
export interface Entry extends JsonObject {
  readonly class_type: string;
}
export type Graph = { readonly [id: string]: Entry };

/** A subgraph with named inputs and outputs. */
export interface Definition extends JsonObject {
  readonly graph: Graph;
}

export interface Document {
  readonly graph: Graph;
  readonly definitions: { readonly [id: string]: Definition };
  readonly canvas: JsonObject;
  readonly requires: JsonObject;
  readonly rest: JsonObject;
}

export const EMPTY: Document = { graph: {}, definitions: {}, canvas: {}, requires: {}, rest: {} };
export const VERSION = 1;

/** A file that is no workflow of ours; the message says what is wrong with it. */
export class NotAWorkflow extends Error {}

/** The document in a file's text. */
export function read(text: string): Document {
  let data: Json;
  try {
    data = parse(text);
  } catch (error) {
    throw new NotAWorkflow(`this is no JSON: ${(error as Error).message}`);
  }
  return fromJson(data);
}

/** The document that plain data hold. */
export function fromJson(data: Json): Document {
  if (!isObject(data)) throw new NotAWorkflow("a workflow is an object");
  if (own(data, "limner") !== VERSION) throw new NotAWorkflow(`this is not version ${VERSION} of Limner's format`);
  const { limner: _, graph, definitions, canvas, requires, ...rest } = data;
  return {
    graph: graphOf(graph, "graph"),
    definitions: definitionsOf(part(definitions, "definitions")),
    canvas: part(canvas, "canvas"),
    requires: part(requires, "requires"),
    rest,
  };
}

/** The document as plain data; parts that are empty are left out. */
export function asJson(document: Document): JsonObject {
  const { graph, rest, ...parts } = document;
  const kept = Object.entries(parts).filter(([, value]) => Object.keys(value).length > 0);
  return { limner: VERSION, graph, ...Object.fromEntries(kept), ...rest };
}

/** The file's text: sorted, a node a block, as the server writes it. */
export const write = (document: Document): string => `${block(asJson(document), 0)}\n`;

/** The inputs of a node. */
export const inputsOf = (entry: Entry): Inputs => objectAt(entry, "inputs");

/** What of a node does not enter its result. */
export const metaOf = (entry: Entry): JsonObject => objectAt(entry, "_meta");

export function isLink(value: Json | undefined): value is Link {
  return isList(value) && value.length === 2 && typeof value[0] === "string" && Number.isInteger(value[1]);
}

/** Ids in the order that people count in: 2 before 10. */
export function natural(a: string, b: string): number {
  const left = a.split(":");
  const right = b.split(":");
  for (let i = 0; i < left.length && i < right.length; i++) {
    const order = byPart(left[i]!, right[i]!);
    if (order !== 0) return order;
  }
  return left.length - right.length || byCodePoint(a, b);
}

/** A part of a document that is an object, or an empty one. */
export function objectAt(data: JsonObject, name: string): JsonObject {
  const found = own(data, name);
  return isObject(found) ? found : {};
}

const WHOLE = /^\d{1,19}$/;

function byPart(a: string, b: string): number {
  const [first, second] = [WHOLE.test(a), WHOLE.test(b)];
  if (first && second) return Number(BigInt(a) - BigInt(b));
  return first === second ? byCodePoint(a, b) : first ? -1 : 1;
}

function part(value: Json | undefined, name: string): JsonObject {
  if (value === undefined) return {};
  if (!isObject(value)) throw new NotAWorkflow(`its '${name}' must be an object`);
  return value;
}

function graphOf(value: Json | undefined, where: string): Graph {
  if (!isObject(value)) throw new NotAWorkflow(`it has no '${where}'`);
  for (const [id, entry] of Object.entries(value)) {
    if (!isObject(entry) || typeof own(entry, "class_type") !== "string") throw new NotAWorkflow(`'${id}' is no node: it has no 'class_type'`);
    part(own(entry, "inputs"), `inputs of ${id}`);
    part(own(entry, "_meta"), `_meta of ${id}`);
  }
  return value as Graph;
}

function definitionsOf(data: JsonObject): { readonly [id: string]: Definition } {
  for (const [id, definition] of Object.entries(data)) {
    if (!isObject(definition)) throw new NotAWorkflow(`the definition '${id}' is no object`);
    graphOf(own(definition, "graph"), `graph of the definition ${id}`);
  }
  return data as { readonly [id: string]: Definition };
}

/** Objects of the first two levels take a line for each key, deeper ones where they are long. */
function block(value: Json, depth: number): string {
  const line = flat(value);
  if (!isObject(value) || Object.keys(value).length === 0 || (depth > 1 && [...line].length + 2 * depth <= 110)) return line;
  const indent = "  ".repeat(depth + 1);
  const keys = Object.keys(value).sort((a, b) => (depth === 0 && (a === "limner" ? -1 : b === "limner" ? 1 : 0)) || natural(a, b));
  const lines = keys.map((key) => `${indent}${JSON.stringify(key)}: ${block(value[key]!, depth + 1)}`);
  return `{\n${lines.join(",\n")}\n${"  ".repeat(depth)}}`;
}
