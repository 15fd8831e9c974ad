import { describe, expect, test } from "vitest";

import { asJson, EMPTY, isLink, natural, NotAWorkflow, read, write } from "../src/core/document";
import { byCodePoint, Exact, flat, own, parse } from "../src/core/json";
import { texts } from "./samples";

describe("numbers", () => {
  test("keep the text that JavaScript would not have written", () => {
    const text = '[1, 1.0, 1e3, 18446744073709551615, -0, 0.1, "1.0 in a text"]';
    expect(flat(parse(text))).toBe(text);
  });

  test("that are plain are plain", () => {
    expect(parse('{"seed": 1, "scale": 2.5, "wide": 3.0}')).toEqual({ seed: 1, scale: 2.5, wide: new Exact("3.0") });
  });

  test("are not taken for others because a text looks like their mark", () => {
    expect(parse('["exact:9", 1.0]')).toEqual(["exact:9", new Exact("1.0")]);
  });

  test("where none may stand are refused", () => {
    expect(() => parse('{1.0: "x"}')).toThrow(SyntaxError);
    expect(() => parse("[01]")).toThrow(SyntaxError);
  });
});

describe("a workflow file", () => {
  test.each(texts("workflows"))("that ships is written as it is read: %s", (_, text) => {
    expect(write(read(text))).toBe(text);
  });

  test("keeps what nobody knows", () => {
    const text = write(read('{"limner": 1, "graph": {"a": {"class_type": "X", "odd": [1.50]}}, "later": {"b": 1.0}}'));
    expect(text).toContain('"odd": [1.50]');
    expect(text).toContain('"b": 1.0');
    expect(write(read(text))).toBe(text);
  });

  test("keeps nodes that are called as JavaScript's own things", () => {
    const text = '{"limner": 1, "graph": {"__proto__": {"class_type": "X"}, "constructor": {"class_type": "Y"}}}';
    const { graph } = read(text);
    expect(Object.keys(graph).sort()).toEqual(["__proto__", "constructor"]);
    expect(write(read(write(read(text))))).toContain('"__proto__"');
    expect(own(EMPTY.graph, "constructor")).toBeUndefined();
  });

  test.each([
    ["{", "no JSON"],
    ["[]", "is an object"],
    ['{"graph": {}}', "version 1"],
    ['{"limner": 2, "graph": {}}', "version 1"],
    ['{"limner": 1}', "no 'graph'"],
    ['{"limner": 1, "graph": {"a": {}}}', "'a' is no node"],
    ['{"limner": 1, "graph": {"a": {"class_type": "X", "inputs": []}}}', "inputs of a"],
    ['{"limner": 1, "graph": {}, "definitions": {"d": 1}}', "'d' is no object"],
  ])("that is none is refused in words: %s", (text, words) => {
    expect(() => read(text)).toThrow(NotAWorkflow);
    expect(() => read(text)).toThrow(words);
  });

  test("leaves out parts that are empty", () => {
    expect(asJson(EMPTY)).toEqual({ limner: 1, graph: {} });
  });
});

test("ids are in the order that people count in", () => {
  expect(["10", "b", "2", "a:10", "a:9", "1", "01", "2:1"].sort(natural)).toEqual(["01", "1", "2", "2:1", "10", "a:9", "a:10", "b"]);
});

test("texts are in Python's order", () => {
  expect(["\u{1F34E}", "\uFF5E", "a"].sort(byCodePoint)).toEqual(["a", "\uFF5E", "\u{1F34E}"]);
});

test("a link is an id and a whole number, and nothing else", () => {
  expect(isLink(["a", 0])).toBe(true);
  for (const value of [["a"], ["a", "0"], [1, 0], ["a", 0.5], ["a", true], ["a", 0, 1], { 0: "a" }, null]) expect(isLink(value)).toBe(false);
});
