import { describe, expect, test } from "vitest";

import { inputsOf, nodeId, type Document } from "../src/core/document";
import { connected } from "../src/core/edits";
import { parse, type Json } from "../src/core/json";
import { advanced, controlOf, GREATEST, withControl, type Control } from "../src/core/seeds";
import { CATALOGUE, CHAIN, document } from "./samples";

const open = nodeId("open");
const seedOf = (part: Document): Json => inputsOf(part.graph["open"]!)["seed"]!;
const ran = (control: Control, seed: Json = 7, random = 0.5): Json =>
  seedOf(advanced(withControl(document({ open: { class_type: "Open", inputs: { seed } } }), open, "seed", control), CATALOGUE, () => random));

describe("before a run a seed", () => {
  test("stays, counts, or is thrown anew", () => {
    expect(ran("fixed")).toBe(7);
    expect(ran("increment")).toBe(8);
    expect(ran("decrement")).toBe(6);
    expect(ran("randomize", 7, 0.25)).toBe(Math.floor(GREATEST / 4));
  });

  test("does not leave what a seed may be", () => {
    expect(ran("decrement", 0)).toBe(0);
    expect(ran("increment", GREATEST)).toBe(GREATEST);
    expect(ran("increment", parse("18446744073709551615"))).toBe(GREATEST);
  });

  test("that is fixed keeps every digit", () => {
    expect(ran("fixed", parse("18446744073709551615"))).toEqual(parse("18446744073709551615"));
  });

  test("that comes along a wire is left alone", () => {
    const wired = withControl(connected(CHAIN, [nodeId("blur"), 0], { node: open, input: "seed" }), open, "seed", "randomize");
    expect(advanced(wired, CATALOGUE)).toBe(wired);
  });
});

test("a control is a word, or a word for each widget", () => {
  expect(controlOf({ class_type: "X", _meta: { control: "increment" } }, "seed")).toBe("increment");
  expect(controlOf({ class_type: "X", _meta: { control: { other: "increment" } } }, "seed")).toBe("fixed");
  expect(withControl(withControl(CHAIN, open, "seed", "randomize"), open, "seed", "fixed").graph).toEqual(CHAIN.graph);
});
