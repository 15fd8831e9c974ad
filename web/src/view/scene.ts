/** The document as React Flow wants it: boxes of known size with known handles, and links.  What did not change is the same object. */

import { Position, type Edge, type Node, type NodeHandle } from "@xyflow/react";

import { typeOf, type Catalogue, type NodeType } from "../core/catalogue";
import { inputsOf, isLink, metaOf, nodeId, type Document, type Entry, type Link } from "../core/document";
import { placeOf, specOf, wireOf, type Socket } from "../core/edits";
import { shapeOf } from "../core/layout";
import { own } from "../core/json";
import { colourOf } from "./colours";

export type Box = Node<{ readonly entry: string }, "limner">;
export type Wire = Edge<{ readonly to: Socket }>;

export const DOT = 12; // pixels across

export const inputHandle = (name: string): string => `in:${name}`;
export const outputHandle = (k: number): string => `out:${k}`;

/** The socket that a handle stands for. */
export function handled(id: string): { readonly side: "input" | "output"; readonly socket: string } {
  const [side, ...name] = id.split(":");
  return { side: side === "in" ? "input" : "output", socket: name.join(":") };
}

/** What of a node decides how large it is: its values do not. */
const looks = new WeakMap<Box, readonly [Entry, NodeType]>();

export function boxes(document: Document, catalogue: Catalogue, selected: ReadonlySet<string>, before: readonly Box[]): Box[] {
  const known = new Map(before.map((box) => [box.id, box]));
  const after = Object.entries(document.graph).map(([id, entry]) => {
    const old = known.get(id);
    const position = placeOf(document, nodeId(id)) ?? { x: 0, y: 0 };
    const type = sameType(old, entry) ?? typeOf(entry, document, catalogue);
    const ariaLabel = titleOf(entry, type);
    const unmoved = old && looks.get(old)?.[1] === type && old.position.x === position.x && old.position.y === position.y && old.ariaLabel === ariaLabel;
    if (unmoved && old.selected === selected.has(id)) return old;
    const shape = shapeOf(type);
    const box: Box = {
      id,
      type: "limner",
      position,
      data: { entry: id },
      selected: selected.has(id),
      width: shape.width,
      height: shape.height,
      handles: handles(type),
      ariaLabel,
    };
    looks.set(box, [entry, type]);
    return box;
  });
  return same(before, after);
}

/** The list before, if nothing in it changed: then nobody need look at it again. */
function same<T>(before: readonly T[], after: T[]): T[] {
  return before.length === after.length && after.every((one, k) => one === before[k]) ? (before as T[]) : after;
}

/** The type that a box was made for, if the node is of the same one and not a placeholder, whose sockets are its inputs. */
function sameType(box: Box | undefined, entry: Entry): NodeType | undefined {
  const [old, type] = (box && looks.get(box)) ?? [];
  return old && type && old.class_type === entry.class_type && !type.missing ? type : undefined;
}

export function wires(document: Document, catalogue: Catalogue, before: readonly Wire[]): Wire[] {
  const known = new Map(before.map((wire) => [wire.id, wire]));
  const after = [...links(document)].map(([to, link]) => {
    const id = `${link[0]}.${link[1]}>${to.node}.${to.input}`;
    const stroke = colourOf(wireOf(document, catalogue, link));
    const old = known.get(id);
    if (old?.style?.stroke === stroke) return old;
    const ends = { source: link[0], sourceHandle: outputHandle(link[1]), target: to.node, targetHandle: inputHandle(to.input) };
    const wire: Wire = { id, ...ends, data: { to }, style: { stroke }, interactionWidth: 14, selectable: true, deletable: false, focusable: false };
    return wire;
  });
  return same(before, after);
}

function* links(document: Document): Generator<readonly [Socket, Link]> {
  for (const [id, entry] of Object.entries(document.graph)) {
    for (const [input, value] of Object.entries(inputsOf(entry))) {
      if (isLink(value) && own(document.graph, value[0])) yield [{ node: nodeId(id), input }, value];
    }
  }
}

/** What a screen reader says of a node beside its name. */
export function counts(document: Document, id: string, type: NodeType): readonly [inputs: number, connected: number] {
  const values = Object.values(inputsOf(document.graph[id]!));
  return [type.inputs.length, values.filter(isLink).length];
}

export function titleOf(entry: Entry, type: NodeType): string {
  const said = own(metaOf(entry), "title");
  return typeof said === "string" && said ? said : type.title;
}

/** The type of what is at the end of a link that somebody holds. */
export function plugWire(document: Document, catalogue: Catalogue, node: string, side: "input" | "output", socket: string): string {
  if (side === "output") return wireOf(document, catalogue, [nodeId(node), Number(socket)]);
  return specOf(document, catalogue, { node: nodeId(node), input: socket })?.wire ?? "*";
}

function handles(type: NodeType): NodeHandle[] {
  const shape = shapeOf(type);
  const at = (x: number, y: number): Pick<NodeHandle, "x" | "y" | "width" | "height"> => ({ x: x - DOT / 2, y: y - DOT / 2, width: DOT, height: DOT });
  const ins = [...shape.inputs].map(([name, row]): NodeHandle => {
    return { id: inputHandle(name), type: "target", position: Position.Left, ...at(0, row.y) };
  });
  const outs = shape.outputs.map((row, k): NodeHandle => ({ id: outputHandle(k), type: "source", position: Position.Right, ...at(shape.width, row.y) }));
  return [...ins, ...outs];
}
