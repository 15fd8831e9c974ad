/** Tests in a browser, against the server whose address LIMNER holds. */

import { defineConfig } from "vitest/config";

export default defineConfig({ test: { include: ["test/browser/*.browser.ts"], testTimeout: 120_000, hookTimeout: 60_000, fileParallelism: false } });
