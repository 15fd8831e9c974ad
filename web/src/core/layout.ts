/** Sizes of nodes, and places for those of files that do not say where they stand: layers from left to right. */

import { typeOf, type Catalogue, type InputSpec, type NodeType } from "./catalogue";
import { inputsOf, isLink, natural, nodeId, type Document, type NodeId } from "./document";
import { moved, placeOf, type Point } from "./edits";

export const GRID = 10; // pixels, like all below
export const TITLE = 28;
export const ROW = 24;
export const WIDTH = 230;
export const PADDING = 6;
const TEXT = 76; // a field of several lines
const PICTURE = 200;
const APART = { x: 70, y: 30 };

export interface Row {
  readonly y: number; // of its middle, below the node's top
  readonly height: number;
}

export interface Shape {
  readonly width: number;
  readonly height: number;
  readonly inputs: ReadonlyMap<string, Row>;
  readonly outputs: readonly Row[];
  readonly picture: Row | undefined;
}

/** Where everything stands on a node of a type. */
export function shapeOf(type: NodeType): Shape {
  const inputs = new Map<string, Row>();
  const sockets = type.inputs.filter((spec) => !spec.widget);
  const row = (k: number): Row => ({ y: TITLE + PADDING + k * ROW + ROW / 2, height: ROW });
  sockets.forEach((spec, k) => inputs.set(spec.name, row(k)));
  let y = TITLE + PADDING + Math.max(sockets.length, type.outputs.length) * ROW;
  for (const spec of type.inputs.filter((other) => other.widget)) {
    const height = heightOf(spec);
    inputs.set(spec.name, { y: y + height / 2, height });
    y += height;
  }
  const picture = shows(type) ? { y: y + PICTURE / 2, height: PICTURE } : undefined;
  return { width: WIDTH, height: y + (picture ? PICTURE : 0) + PADDING, inputs, outputs: type.outputs.map((_, k) => row(k)), picture };
}

/** Whether a node has a place for pictures. */
export const shows = (type: NodeType): boolean => type.output_node || type.inputs.some((spec) => spec.files !== undefined);

/** The document with a place for every node: a layer is one to the right of all that feed it. */
export function laidOut(document: Document, catalogue: Catalogue): Document {
  const lost = Object.keys(document.graph).map(nodeId).filter((id) => !placeOf(document, id));
  if (lost.length === 0) return document;
  const below = Math.max(0, ...placed(document, catalogue));
  return moved(document, places(document, catalogue, lost, below === 0 ? 0 : below + APART.y * 2));
}

function* placed(document: Document, catalogue: Catalogue): Generator<number> {
  for (const [id, entry] of Object.entries(document.graph)) {
    const at = placeOf(document, nodeId(id));
    if (at) yield at.y + shapeOf(typeOf(entry, document, catalogue)).height;
  }
}

function places(document: Document, catalogue: Catalogue, ids: readonly NodeId[], top: number): Map<NodeId, Point> {
  const found = new Map<NodeId, Point>();
  const height = (id: NodeId): number => shapeOf(typeOf(document.graph[id]!, document, catalogue)).height + APART.y;
  const columns = layers(document, ids).map((layer) => ({ layer, height: layer.reduce((sum, id) => sum + height(id), 0) }));
  const tallest = Math.max(0, ...columns.map((column) => column.height));
  columns.forEach((column, k) => {
    let y = top + Math.floor((tallest - column.height) / 2 / GRID) * GRID;
    for (const id of ordered(column.layer, document, found)) {
      found.set(id, { x: k * (WIDTH + APART.x), y });
      y += Math.ceil(height(id) / GRID) * GRID;
    }
  });
  return found;
}

/** Nodes beside what feeds them, so that links cross little. */
function ordered(layer: readonly NodeId[], document: Document, found: ReadonlyMap<NodeId, Point>): NodeId[] {
  const middle = (id: NodeId): number => {
    const heights = feeders(document, id).map((above) => found.get(above)?.y ?? 0);
    return heights.length ? heights.reduce((sum, y) => sum + y, 0) / heights.length : 0;
  };
  return [...layer].sort((a, b) => middle(a) - middle(b) || natural(a, b));
}

/** Each node right of all that feed it, and as far right as what it feeds lets it: links are short so. */
function layers(document: Document, ids: readonly NodeId[]): NodeId[][] {
  const inside = new Set(ids);
  const feeds = new Map(ids.map((id) => [id, feeders(document, id).filter((above) => inside.has(above))]));
  const depth = new Map(earliest(ids, feeds));
  const limit = new Map<NodeId, number>();
  for (const [id, least] of [...depth].sort(([, a], [, b]) => b - a)) {
    depth.set(id, Math.max(least, limit.get(id) ?? least));
    for (const above of feeds.get(id)!) limit.set(above, Math.min(limit.get(above) ?? Infinity, depth.get(id)! - 1));
  }
  const rows: NodeId[][] = Array.from({ length: Math.max(0, ...depth.values()) + 1 }, () => []);
  for (const id of ids) rows[depth.get(id)!]!.push(id);
  return rows.filter((row) => row.length > 0);
}

/** The least depth that each node can have; where they feed each other in a circle, one that ends the search. */
function earliest(ids: readonly NodeId[], feeds: ReadonlyMap<NodeId, readonly NodeId[]>): [NodeId, number][] {
  const depth = new Map(ids.map((id) => [id, 0]));
  for (let round = 0, again = true; again && round <= ids.length; round++) {
    again = false;
    for (const id of ids) {
      const least = Math.max(-1, ...feeds.get(id)!.map((above) => depth.get(above)!)) + 1;
      if (least <= depth.get(id)! || least >= ids.length) continue;
      depth.set(id, least);
      again = true;
    }
  }
  return [...depth];
}

const feeders = (document: Document, id: NodeId): NodeId[] =>
  Object.values(inputsOf(document.graph[id]!))
    .filter(isLink)
    .map((link) => link[0]);

function heightOf(spec: InputSpec): number {
  return (spec.multiline ? TEXT : ROW) + (spec.seed ? ROW : 0);
}
