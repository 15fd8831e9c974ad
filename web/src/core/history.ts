/** Undo and redo: a user's action is a patch, which is what differs between two documents. */

import type { Document } from "./document";
import { isObject, own, withProperty, type Json, type JsonObject } from "./json";

/** What changed at one place; null stands where nothing was, or is. */
export interface Change {
  readonly path: readonly string[];
  readonly before: readonly [Json] | null;
  readonly after: readonly [Json] | null;
}
export type Patch = readonly Change[];

export interface Action {
  readonly label: string;
  readonly patch: Patch;
  readonly key: string; // actions with the same one, one right after the other, are one; "" joins nothing
}

export interface History {
  readonly past: readonly Action[];
  readonly future: readonly Action[];
}

export const NEW: History = { past: [], future: [] };
export const LONGEST = 500; // actions that can be undone

/** The history after an action that turned `before` into `after`. */
export function recorded(history: History, label: string, before: Document, after: Document, key = ""): History {
  const patch = difference(before, after);
  if (patch.length === 0) return history;
  const last = history.past.at(-1);
  const joined = key !== "" && last?.key === key && history.future.length === 0;
  if (!joined) return { past: [...history.past, { label, patch, key }].slice(-LONGEST), future: [] };
  const whole = difference(applied(before, inverse(last.patch)), after);
  return { past: [...history.past.slice(0, -1), ...(whole.length ? [{ ...last, patch: whole }] : [])], future: [] };
}

/** The history whose last action is complete: what follows is another one, whatever its key. */
export function closed(history: History): History {
  const last = history.past.at(-1);
  return last?.key ? { ...history, past: [...history.past.slice(0, -1), { ...last, key: "" }] } : history;
}

/** The document and the history with the last action undone. */
export function undone(document: Document, history: History): readonly [Document, History] {
  const last = history.past.at(-1);
  if (!last) return [document, history];
  return [applied(document, inverse(last.patch)), { past: history.past.slice(0, -1), future: [last, ...history.future] }];
}

/** The document and the history with the action that was undone last done again. */
export function redone(document: Document, history: History): readonly [Document, History] {
  const [next, ...future] = history.future;
  if (!next) return [document, history];
  return [applied(document, next.patch), { past: [...history.past, { ...next, key: "" }], future }];
}

/** What has to change to turn `before` into `after`.  Parts that are the same object are not looked into. */
export function difference(before: Document, after: Document): Patch {
  const changes: Change[] = [];
  compare(before as unknown as JsonObject, after as unknown as JsonObject, [], changes);
  return changes;
}

export function applied(document: Document, patch: Patch): Document {
  const data = patch.reduce((part, change) => put(part, change.path, change.after), document as unknown as JsonObject);
  return data as unknown as Document;
}

export function inverse(patch: Patch): Patch {
  return patch.map(({ path, before, after }) => ({ path, before: after, after: before })).reverse();
}

function compare(before: JsonObject, after: JsonObject, path: readonly string[], changes: Change[]): void {
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [old, now] = [own(before, name), own(after, name)];
    const place = [...path, name];
    if (old === now) continue;
    if (isObject(old) && isObject(now)) compare(old, now, place, changes);
    else changes.push({ path: place, before: old === undefined ? null : [old], after: now === undefined ? null : [now] });
  }
}

function put(data: JsonObject, [name, ...rest]: readonly string[], value: Change["after"]): JsonObject {
  if (name === undefined) return data;
  if (rest.length === 0) return withProperty(data, name, value?.[0]);
  const inner = own(data, name);
  return withProperty(data, name, put(isObject(inner) ? inner : {}, rest, value));
}
