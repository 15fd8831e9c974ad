import { bench } from "vitest";

import { listed, search } from "../src/core/palette";
import { kind } from "./samples";

const words = ["image", "latent", "sample", "mask", "load", "scale", "encode", "blend", "colour", "noise"];
const list = listed(Array.from({ length: 5000 }, (_, k) => kind(`pack.${k}`, { image: "IMAGE" }, ["IMAGE"], { title: `${words[k % 10]} ${words[(k * 7) % 9]} ${k}` })));

for (const query of ["s", "samp", "image sc", "isn", "qzx"]) bench(`5,000 types, "${query}"`, () => void search(list, query));
