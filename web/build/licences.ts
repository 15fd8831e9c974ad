/** The licences of what is in the bundle: minifying drops the notices that they ask to be kept. */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Plugin } from "vite";

export const NAME = "THIRD_PARTY_LICENSES.txt";

export function licences(): Plugin {
  return {
    name: "licences",
    generateBundle() {
      const folders = new Set([...this.getModuleIds()].map(packageOf).filter((folder) => folder !== undefined));
      const notices = [...folders].map(notice).sort();
      this.emitFile({ type: "asset", fileName: NAME, source: notices.join(`\n${"-".repeat(80)}\n\n`) });
    },
  };
}

/** The folder of the package that a module belongs to, if it is one of others. */
function packageOf(id: string): string | undefined {
  const path = id.replace(/^\0/, "").split("?")[0]!;
  if (!path.includes("/node_modules/")) return undefined;
  let folder = dirname(path);
  while (!isPackage(folder)) folder = dirname(folder);
  return folder;
}

/** Whether a folder is a package's own: some keep nameless package.json files further in. */
function isPackage(folder: string): boolean {
  const file = join(folder, "package.json");
  return existsSync(file) && "version" in (JSON.parse(readFileSync(file, "utf8")) as object);
}

function notice(folder: string): string {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Record<string, string>;
  const file = readdirSync(folder).find((entry) => /^licen[cs]e(\.(md|txt))?$/i.test(entry));
  const text = file ? readFileSync(join(folder, file), "utf8").replaceAll("\r\n", "\n").trim() : "";
  return `${name} ${version} (${license})\n\n${text}\n`;
}
