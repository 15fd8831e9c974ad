/** BUILD.json: the hashes of all that the bundle was made from, and of all that it is. */

import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join, relative, sep } from "node:path";
import type { Plugin } from "vite";

const ROOT = join(import.meta.dirname, "..");
const INPUTS = ["build", "src", "index.html", "package-lock.json", "package.json", "tsconfig.json", "vite.config.ts"];

export function record(): Plugin {
  return {
    name: "record",
    enforce: "post",
    generateBundle: {
      order: "post",
      handler(_, bundle) {
        const outputs = Object.values(bundle).map((file) => [file.fileName, digest(file.type === "chunk" ? file.code : file.source)] as const);
        const inputs = INPUTS.flatMap(files).map((path) => [relative(ROOT, path).split(sep).join("/"), digest(readFileSync(path))] as const);
        const source = `${JSON.stringify({ inputs: sorted(inputs), outputs: sorted(outputs) }, null, 1)}\n`;
        this.emitFile({ type: "asset", fileName: "BUILD.json", source });
      },
    },
  };
}

const digest = (content: string | Uint8Array): string => createHash("sha256").update(content).digest("hex");

const sorted = (rows: (readonly [string, string])[]): Record<string, string> =>
  Object.fromEntries(rows.sort(([a], [b]) => (a < b ? -1 : 1)));

function files(name: string): string[] {
  const path = join(ROOT, name);
  if (/\.[a-z]+$/.test(name)) return [path];
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}
