import { describe, expect, test } from "vitest";

import { typeOf } from "../src/core/catalogue";
import { inputsOf, metaOf, nodeId, type Document } from "../src/core/document";
import { added, bestInput, connected, disconnected, moved, placeOf, refusal, removed, spliced, toggled, withMeta, withValue } from "../src/core/edits";
import { laidOut, shapeOf } from "../src/core/layout";
import { CATALOGUE, CHAIN, document, kind } from "./samples";

const [open, blur, save] = ["open", "blur", "save"].map(nodeId) as [ReturnType<typeof nodeId>, ReturnType<typeof nodeId>, ReturnType<typeof nodeId>];
const linkOf = (part: Document, id: string, input: string): unknown => inputsOf(part.graph[id]!)[input];

describe("adding", () => {
  test("a node gives it a place, and an id that reads well and nobody has", () => {
    const [once, first] = added(CHAIN, kind("pack.BigBlur", {}, []), { x: 10.4, y: 20 });
    const [, second] = added(once, kind("pack.BigBlur", {}, []), { x: 0, y: 0 });
    expect([first, second]).toEqual(["big-blur", "big-blur-2"]);
    expect(placeOf(once, first)).toEqual({ x: 10, y: 20 });
    expect(once.graph["blur"]).toBe(CHAIN.graph["blur"]);
  });
});

describe("removing", () => {
  test("a node takes the links out of it along", () => {
    const after = removed(CHAIN, new Set([blur]), CATALOGUE);
    expect(Object.keys(after.graph)).toEqual(["open", "save"]);
    expect(inputsOf(after.graph["save"]!)).toEqual({});
  });

  test("a node heals its links if asked to", () => {
    const after = removed(CHAIN, new Set([blur]), CATALOGUE, true);
    expect(linkOf(after, "save", "image")).toEqual(["open", 0]);
  });

  test("heals past all that go at once, and only where the type fits", () => {
    const [two, id] = added(CHAIN, CATALOGUE["Cut"]!, { x: 0, y: 0 });
    const wired = connected(connected(connected(two, [open, 1], { node: id, input: "mask" }), [blur, 0], { node: id, input: "image" }), [id, 0], { node: save, input: "image" });
    expect(linkOf(removed(wired, new Set([id, blur]), CATALOGUE, true), "save", "image")).toEqual(["open", 0]);
    const onlyMask = disconnected(wired, { node: id, input: "image" });
    expect(linkOf(removed(onlyMask, new Set([id]), CATALOGUE, true), "save", "image")).toBeUndefined();
  });

  test("a node forgets where it stood", () => {
    const placed = moved(CHAIN, new Map([[blur, { x: 1, y: 2 }]]));
    expect(removed(placed, new Set([blur]), CATALOGUE).canvas).toEqual({});
  });
});

describe("wiring", () => {
  test("says why it will not", () => {
    expect(refusal(CHAIN, CATALOGUE, [open, 1], { node: save, input: "image" })).toBe("takes IMAGE, not MASK");
    expect(refusal(CHAIN, CATALOGUE, [blur, 0], { node: blur, input: "image" })).toContain("its own result");
    expect(refusal(CHAIN, CATALOGUE, [open, 0], { node: save, input: "image" })).toBeUndefined();
    expect(refusal(CHAIN, CATALOGUE, [open, 0], { node: save, input: "none" })).toContain("no such input");
  });

  test("to a node's body finds the free input of the very type", () => {
    const [two, id] = added(CHAIN, CATALOGUE["Cut"]!, { x: 0, y: 0 });
    expect(bestInput(two, CATALOGUE, [open, 0], id)?.name).toBe("image");
    expect(bestInput(two, CATALOGUE, [open, 1], id)?.name).toBe("mask");
    expect(bestInput(CHAIN, CATALOGUE, [open, 1], save)).toBeUndefined();
  });

  test("a node into a link puts it between its ends", () => {
    const [two, id] = added(CHAIN, CATALOGUE["Blur"]!, { x: 0, y: 0 });
    const after = spliced(two, id, [blur, 0], { node: save, input: "image" }, CATALOGUE)!;
    expect(linkOf(after, id, "image")).toEqual(["blur", 0]);
    expect(linkOf(after, "save", "image")).toEqual([id, 0]);
  });

  test("a node into a link that it does not fit into changes nothing", () => {
    expect(spliced(CHAIN, save, [open, 0], { node: blur, input: "image" }, CATALOGUE)).toBeUndefined();
    expect(spliced(CHAIN, blur, [blur, 0], { node: save, input: "image" }, CATALOGUE)).toBeUndefined();
  });
});

describe("a widget that something is plugged into", () => {
  const radius = { node: blur, input: "radius" };

  test("has what was typed there when it is free again", () => {
    const plugged = connected(CHAIN, [open, 0], radius);
    expect(plugged.canvas).toEqual({ nodes: { blur: { behind: { radius: 3 } } } });
    expect(disconnected(plugged, radius).graph).toEqual(CHAIN.graph);
    expect(disconnected(CHAIN, radius)).toBe(CHAIN);
  });
});

describe("values and modes", () => {
  test("a list as a value is not taken for a link", () => {
    expect(linkOf(withValue(CHAIN, { node: blur, input: "radius" }, ["open", 0]), "blur", "radius")).toEqual({ __value__: ["open", 0] });
  });

  test("a mode is set where not all have it, and taken away where all do", () => {
    const once = toggled(CHAIN, [open], "bypass");
    const both = toggled(once, [open, blur], "bypass");
    expect(metaOf(both.graph["blur"]!)).toEqual({ mode: "bypass" });
    expect(toggled(both, [open, blur], "bypass").graph).toEqual(CHAIN.graph);
  });

  test("a word about a node leaves no empty `_meta` behind", () => {
    expect(withMeta(withMeta(CHAIN, blur, "title", "Soft"), blur, "title", undefined).graph).toEqual(CHAIN.graph);
  });
});

describe("types that nobody knows", () => {
  test("have the sockets that their file brought along, and the values that it holds", () => {
    const entry = { class_type: "Gone", inputs: { image: ["open", 0], size: 3 }, _meta: { sockets: { inputs: [["image", "IMAGE"]], outputs: [["out", "MASK"]] } } };
    const type = typeOf(entry, CHAIN, CATALOGUE);
    expect(type.missing).toBe(true);
    expect(type.inputs.map(({ name, wire, widget }) => [name, wire, widget])).toEqual([["image", "IMAGE", false], ["size", "*", true]]);
    expect(type.outputs).toEqual([{ name: "out", wire: "MASK" }]);
  });

  test("that are called as JavaScript's own things are not known either", () => {
    expect(typeOf({ class_type: "constructor" }, CHAIN, CATALOGUE).missing).toBe(true);
  });
});

describe("layout", () => {
  test("puts what feeds a node to the left of it, and no two nodes onto each other", () => {
    const wide = document({ ...CHAIN.graph, cut: { class_type: "Cut", inputs: { image: ["open", 0], mask: ["open", 1] } } });
    const after = laidOut(wide, CATALOGUE);
    const boxes = Object.entries(after.graph).map(([id, entry]) => ({ id, ...placeOf(after, nodeId(id))!, ...shapeOf(typeOf(entry, after, CATALOGUE)) }));
    for (const a of boxes) {
      for (const b of boxes) {
        const apart = a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
        expect(a === b || apart).toBe(true);
      }
    }
    expect(placeOf(after, open)!.x).toBeLessThan(placeOf(after, blur)!.x);
    expect(placeOf(after, blur)!.x).toBeLessThan(placeOf(after, save)!.x);
  });

  test("leaves alone what stands somewhere", () => {
    const placed = moved(CHAIN, new Map([[save, { x: 5, y: 6 }]]));
    expect(placeOf(laidOut(placed, CATALOGUE), save)).toEqual({ x: 5, y: 6 });
  });

  test("ends where nodes feed each other in a circle", () => {
    const circle = document({ a: { class_type: "Blur", inputs: { image: ["b", 0] } }, b: { class_type: "Blur", inputs: { image: ["a", 0] } } });
    expect(Object.keys(laidOut(circle, CATALOGUE).canvas["nodes"] as object).sort()).toEqual(["a", "b"]);
  });
});
