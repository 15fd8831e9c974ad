import { describe, expect, test } from "vitest";

import { nodeId, write, type Document } from "../src/core/document";
import { added, connected, disconnected, moved, refusal, removed, toggled, withLook, withMeta, withValue } from "../src/core/edits";
import { applied, closed, difference, inverse, NEW, recorded, redone, undone, type History } from "../src/core/history";
import { flat, parse, type Json } from "../src/core/json";
import { CATALOGUE, CHAIN, random } from "./samples";

const blur = nodeId("blur");
const radius = { node: blur, input: "radius" };

describe("undo", () => {
  test("takes back one action, redo does it again", () => {
    const after = withValue(CHAIN, radius, 9);
    const history = recorded(NEW, "radius", CHAIN, after);
    const [before, past] = undone(after, history);
    expect(before).toEqual(CHAIN);
    expect(redone(before, past)[0]).toEqual(after);
  });

  test("of nothing changes nothing", () => {
    expect(undone(CHAIN, NEW)).toEqual([CHAIN, NEW]);
    expect(redone(CHAIN, NEW)).toEqual([CHAIN, NEW]);
  });

  test("forgets what was undone when something else is done", () => {
    const after = withValue(CHAIN, radius, 9);
    const [, past] = undone(after, recorded(NEW, "radius", CHAIN, after));
    expect(recorded(past, "other", CHAIN, withValue(CHAIN, radius, 4)).future).toEqual([]);
  });

  test("an action that changes nothing is none", () => {
    expect(recorded(NEW, "nothing", CHAIN, withValue(CHAIN, radius, 3))).toBe(NEW);
  });

  test("the letters of a word are one action, until the field is left", () => {
    const [first, second, third] = [4, 45, 456].map((value) => withValue(CHAIN, radius, value)) as [Document, Document, Document];
    const typed = recorded(recorded(NEW, "radius", CHAIN, first, "radius"), "radius", first, second, "radius");
    expect(undone(second, typed)[0]).toEqual(CHAIN);
    const left = recorded(closed(typed), "radius", second, third, "radius");
    expect(undone(third, left)[0]).toEqual(second);
  });

  test("a word that is typed and taken back is no action", () => {
    const typed = recorded(NEW, "radius", CHAIN, withValue(CHAIN, radius, 4), "radius");
    expect(recorded(typed, "radius", withValue(CHAIN, radius, 4), CHAIN, "radius").past).toEqual([]);
  });

  test("survives being written down", () => {
    const after = removed(CHAIN, new Set([blur]), CATALOGUE, true);
    const history = recorded(NEW, "delete", CHAIN, after);
    const again = parse(flat(history as unknown as Json)) as unknown as History;
    expect(undone(after, again)[0]).toEqual(CHAIN);
  });
});

describe("any sequence of actions", () => {
  test.each(Array.from({ length: 40 }, (_, seed) => seed))("undone is the start, done again is the end: %i", (seed) => {
    const chance = random(seed);
    let [document, history] = [CHAIN, NEW];
    for (let step = 0; step < 30; step++) {
      const after = anyEdit(document, chance);
      history = recorded(history, "edit", document, after, chance() < 0.3 ? "key" : "");
      document = after;
    }
    const end = write(document);
    for (let k = history.past.length; k > 0; k--) [document, history] = undone(document, history);
    expect(write(document)).toBe(write(CHAIN));
    for (let k = history.future.length; k > 0; k--) [document, history] = redone(document, history);
    expect(write(document)).toBe(end);
  });

  test("differs by a patch that turns round", () => {
    const chance = random(99);
    const after = Array.from({ length: 20 }).reduce<Document>((part) => anyEdit(part, chance), CHAIN);
    const patch = difference(CHAIN, after);
    expect(applied(CHAIN, patch)).toEqual(after);
    expect(applied(after, inverse(patch))).toEqual(CHAIN);
  });
});

function anyEdit(document: Document, chance: () => number): Document {
  const ids = Object.keys(document.graph).map(nodeId);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(chance() * list.length)]!;
  const id = ids.length ? pick(ids) : undefined;
  const way = Math.floor(chance() * 8);
  if (id === undefined || way === 0) return added(document, pick(Object.values(CATALOGUE)), { x: chance() * 500, y: chance() * 500 })[0];
  const socket = { node: id, input: pick(["image", "mask", "radius"]) };
  const other = pick(ids);
  if (way === 1) return removed(document, new Set([id, other]), CATALOGUE, chance() < 0.5);
  if (way === 2) return refusal(document, CATALOGUE, [other, 0], socket) ? document : connected(document, [other, 0], socket);
  if (way === 3) return disconnected(document, socket);
  if (way === 4) return withValue(document, socket, pick([1, "a", [1, 2], null, true]));
  if (way === 5) return moved(document, new Map([[id, { x: chance() * 900, y: 0 }]]));
  if (way === 6) return toggled(document, [id, other], pick(["mute", "bypass"]));
  return chance() < 0.5 ? withMeta(document, id, "title", pick(["x", undefined])) : withLook(document, id, "collapsed", pick([true, undefined]));
}
