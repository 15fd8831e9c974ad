/** Finding a node type by what a person types: exact > prefix > word > initials > substring > subsequence. */

import type { NodeType } from "./catalogue";
import { fits } from "./wires";

/** How well a name answers, the best first. */
export const RANKS = ["exact", "prefix", "word", "initials", "substring", "subsequence"] as const;
export type Rank = (typeof RANKS)[number];

/** A type with what is needed to find it, worked out once. */
export interface Listed {
  readonly type: NodeType;
  readonly names: readonly Name[];
}

interface Name {
  readonly text: string;
  readonly words: readonly string[];
  readonly initials: string;
}

/** Where a link that is dropped comes from, or leads to. */
export interface Wanted {
  readonly wire: string;
  readonly side: "input" | "output"; // what the new node must have
}

export interface Found {
  readonly type: NodeType;
  readonly rank: Rank;
}

export const listed = (types: Iterable<NodeType>): readonly Listed[] =>
  [...types].map((type) => ({ type, names: [name(type.title), name(type.id.split(".").at(-1) ?? type.id)] }));

/** The types that answer a query, the best first; among equals what is used most, then shorter titles. */
export function search(list: readonly Listed[], query: string, wanted?: Wanted, uses: ReadonlyMap<string, number> = new Map(), most = 50): Found[] {
  const sought = query.trim().toLowerCase();
  const hits: { type: NodeType; rank: number; used: number }[] = [];
  for (const { type, names } of list) {
    if (wanted && !takes(type, wanted)) continue;
    const rank = sought === "" ? 0 : Math.min(...names.map((known) => rankOf(known, sought)));
    if (rank < RANKS.length) hits.push({ type, rank, used: uses.get(type.id) ?? 0 });
  }
  hits.sort((a, b) => a.rank - b.rank || b.used - a.used || (sought ? a.type.title.length - b.type.title.length : 0));
  return hits.slice(0, most).map(({ type, rank }) => ({ type, rank: RANKS[rank]! }));
}

/** Whether a type has a socket for a link. */
export function takes(type: NodeType, { wire, side }: Wanted): boolean {
  return side === "input" ? type.inputs.some((spec) => fits(wire, spec.wire)) : type.outputs.some((output) => fits(output.wire, wire));
}

function name(title: string): Name {
  const words = title
    .replace(/([a-z0-9])([A-Z])/g, "$1 $2")
    .toLowerCase()
    .split(/[^\p{L}\p{N}]+/u)
    .filter(Boolean);
  return { text: title.toLowerCase(), words, initials: words.map((word) => word[0]).join("") };
}

function rankOf({ text, words, initials }: Name, sought: string): number {
  if (text === sought) return 0;
  if (text.startsWith(sought)) return 1;
  const parts = sought.split(/\s+/);
  if (parts.every((part) => words.some((word) => word.startsWith(part)))) return 2;
  if (initials.startsWith(sought)) return 3;
  if (text.includes(sought)) return 4;
  return isSubsequence(sought, text) ? 5 : RANKS.length;
}

function isSubsequence(sought: string, text: string): boolean {
  let at = 0;
  for (const letter of sought) {
    const found = text.indexOf(letter, at);
    if (found < 0) return false;
    at = found + 1;
  }
  return true;
}
