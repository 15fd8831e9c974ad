import { describe, expect, test } from "vitest";

import type { Sockets } from "../src/core/catalogue";
import { read, type Entry } from "../src/core/document";
import { flat, parse, type Json, type JsonObject } from "../src/core/json";
import { CannotLower, lower } from "../src/core/lowering";
import { texts } from "./samples";

interface Vector {
  readonly document: JsonObject;
  readonly sockets?: { readonly [type: string]: Sockets };
  readonly lowered?: { readonly [id: string]: Entry };
  readonly error?: string;
}

/** The keys of an object in a text, in the order in which they stand there: JavaScript puts numbers first. */
function keysOf(text: string, name: string): string[] {
  const marked = JSON.parse(text.replace(/"((?:[^"\\]|\\.)*)"(?=\s*:)/g, '"~$1"')) as Record<string, Record<string, unknown>>;
  return Object.keys(marked[`~${name}`]!).map((key) => key.slice(1));
}

describe("the shared vectors of lowering", () => {
  test.each(texts("tests/formats/lower"))("%s", (_, text) => {
    const vector = parse(text) as unknown as Vector;
    const document = read(flat(vector.document));
    const known = (type: string): Sockets | undefined => (vector.sockets && Object.hasOwn(vector.sockets, type) ? vector.sockets[type] : undefined);
    if (vector.error !== undefined) {
      expect(() => lower(document, known)).toThrow(CannotLower);
      expect(() => lower(document, known)).toThrow(vector.error);
      return;
    }
    const lowered = lower(document, known);
    expect([...lowered.keys()]).toEqual(keysOf(text, "lowered"));
    for (const [id, entry] of lowered) expect(flat(entry)).toBe(flat(vector.lowered![id] as Json));
  });
});
