import { describe, expect, test } from "vitest";

import type { NodeType } from "../src/core/catalogue";
import { listed, search } from "../src/core/palette";
import { kind } from "./samples";

const named = (title: string, id = `p.${title.replaceAll(" ", "")}`): NodeType => kind(id, { image: "IMAGE" }, ["LATENT"], { title });
const titles = (list: NodeType[], query: string, ...rest: [Parameters<typeof search>[2]?, Parameters<typeof search>[3]?]): string[] =>
  search(listed(list), query, ...rest).map((found) => found.type.title);

describe("the palette", () => {
  test("ranks exact, prefix, word, initials, substring, subsequence", () => {
    const all = ["Sample", "Sampler info", "Big sample", "Some advanced mild plain long equation", "Downsample", "Sum apples slowly more please else"];
    expect(search(listed(all.map((title) => named(title))), "sample").map(({ type, rank }) => [type.title, rank])).toEqual([
      ["Sample", "exact"],
      ["Sampler info", "prefix"],
      ["Big sample", "word"],
      ["Some advanced mild plain long equation", "initials"],
      ["Downsample", "substring"],
      ["Sum apples slowly more please else", "subsequence"],
    ]);
  });

  test("finds a node by its id's words as well", () => {
    expect(titles([named("Scale it", "pack.ImageResize")], "image res")).toEqual(["Scale it"]);
  });

  test("puts what is used more before what is used less, and never before what answers better", () => {
    const list = [named("Blur one", "a"), named("Blur two", "b"), named("Soft blur", "c")];
    expect(titles(list, "blur", undefined, new Map([["b", 2], ["c", 99]]))).toEqual(["Blur two", "Blur one", "Soft blur"]);
  });

  test("offers only what a dragged link can be plugged into", () => {
    const list = [named("Encode"), kind("q.Show", { mask: "MASK" }, [], { title: "Show" })];
    expect(titles(list, "", { wire: "IMAGE", side: "input" })).toEqual(["Encode"]);
    expect(titles(list, "", { wire: "LATENT", side: "output" })).toEqual(["Encode"]);
    expect(titles(list, "", { wire: "VAE", side: "output" })).toEqual([]);
  });

  test("finds nothing where nothing is alike", () => {
    expect(titles([named("Encode")], "zzz")).toEqual([]);
  });

  test("prepares names once: a query of 5,000 types reads each at most a few times", () => {
    let reads = 0;
    const list = listed(
      Array.from({ length: 5000 }, (_, k) => {
        const type = named(`Node number ${k}`);
        return { ...type, get title() { return (reads++, type.title); } };
      }),
    );
    reads = 0;
    search(list, "number 4999");
    expect(reads).toBeLessThanOrEqual(2 * 5000);
  });
});
