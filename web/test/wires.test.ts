import { expect, test } from "vitest";

import { fits } from "../src/core/wires";

test.each([
  ["IMAGE", "IMAGE", true],
  ["IMAGE", "LATENT", false],
  ["*", "LATENT", true],
  ["IMAGE", "*", true],
  ["INT", "FLOAT", true],
  ["FLOAT", "INT", false],
  ["IMAGE", "MASK, IMAGE", true],
  ["IMAGE,MASK", "LATENT,MASK", true],
  ["IMAGE,MASK", "LATENT", false],
])("%s into %s: %s", (wire, socket, may) => {
  expect(fits(wire, socket)).toBe(may);
});
