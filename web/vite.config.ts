/** How the page is built: few files with names that stay, and a record of what they were made from. */

import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

import { licences } from "./build/licences.ts";
import { record } from "./build/record.ts";

const SERVER = process.env["LIMNER"] ?? "http://127.0.0.1:8188";

export default defineConfig({
  base: "./",
  plugins: [react(), licences(), record()],
  build: {
    sourcemap: false,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      output: { entryFileNames: "assets/app.js", chunkFileNames: "assets/[name].js", assetFileNames: "assets/app[extname]" },
    },
  },
  server: { proxy: { "^/(limner|view|upload|models|internal)": SERVER } },
  test: { include: ["test/**/*.test.ts"] },
});
