/** The server, as this page sees it: what it is asked, and what it tells. */

import type { Catalogue } from "./core/catalogue";
import { asJson, type Document } from "./core/document";
import { flat, type Json } from "./core/json";

export interface Problem {
  readonly node: string;
  readonly input: string | null;
  readonly message: string;
}

export type PlanState = "run" | "cached" | "skipped" | "blocked" | "idle";

export interface Planned {
  readonly id: string;
  readonly state: PlanState;
  readonly reason: string;
  readonly seconds: number | null;
}

export interface Plan {
  readonly counts: Readonly<Record<PlanState | "total", number>>;
  readonly seconds: number;
  readonly unknown: number;
  readonly nodes: readonly Planned[];
  readonly problems: readonly Problem[];
}

export interface Picture {
  readonly node: string;
  readonly url: string;
}

export interface Job {
  readonly id: string;
  readonly state: string;
  readonly client: string;
  readonly seconds: number | null;
  readonly progress: { readonly node: string | null; readonly value: number | null; readonly max: number | null } | null;
  readonly error: { readonly node?: string | null; readonly message: string } | null;
  readonly pictures: readonly Picture[];
}

export interface Example {
  readonly name: string;
  readonly about: string;
}

/** What happens, as it happens: see docs/http.md. */
export interface Told {
  readonly event: string;
  readonly job: string;
  readonly client: string;
  readonly display?: string;
  readonly value?: number;
  readonly max?: number;
  readonly image?: string;
  readonly status?: string;
  readonly seconds?: number | null;
  readonly output?: { readonly images?: readonly FileOfServer[] } | null;
  readonly nodes?: readonly string[];
  readonly message?: string;
  readonly state?: string;
  readonly error?: Job["error"];
  readonly remaining?: number;
  readonly jobs?: readonly Job[];
}

export interface FileOfServer {
  readonly filename: string;
  readonly subfolder: string;
  readonly type: string;
}

/** The server's no, with what is wrong where. */
export class Refused extends Error {
  constructor(
    message: string,
    readonly problems: readonly Problem[] = [],
  ) {
    super(message);
  }
}

export const catalogue = (): Promise<Catalogue> => ask("limner/nodes");
export const examples = async (): Promise<readonly Example[]> => (await ask<{ examples: Example[] }>("limner/examples")).examples;
export const models = (folder: string): Promise<readonly string[]> => ask(`models/${encodeURIComponent(folder)}`);

export async function exampleText(name: string): Promise<string> {
  return (await asked(`limner/examples/${encodeURIComponent(name)}`)).text();
}

export const plan = (document: Document, signal: AbortSignal): Promise<Plan> => ask("limner/plan", body({ workflow: asJson(document) }, { signal }));

export const run = (document: Document, client: string): Promise<Job> => ask("limner/run", body({ workflow: asJson(document), client }));

export const stop = (job: string): Promise<unknown> => asked(`limner/jobs/${job}`, { method: "DELETE" });

/** The last job of a client, with its pictures. */
export async function lastJob(client: string): Promise<Job | undefined> {
  return (await ask<{ jobs: Job[] }>(`limner/jobs?limit=1&client=${encodeURIComponent(client)}`)).jobs[0];
}

export function viewUrl({ filename, subfolder, type }: FileOfServer): string {
  return `view?${new URLSearchParams({ filename, subfolder, type }).toString()}`;
}

/** Listen to what happens; browsers come back by themselves when the line breaks. */
export function listen(hear: (told: Told) => void, online: (is: boolean) => void): () => void {
  const source = new EventSource("limner/events?previews");
  source.onmessage = (message) => hear(JSON.parse(message.data as string) as Told);
  source.onopen = () => online(true);
  source.onerror = () => online(false);
  return () => source.close();
}

const body = (data: Json, more: RequestInit = {}): RequestInit => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: flat(data),
  ...more,
});

async function ask<T>(path: string, init?: RequestInit): Promise<T> {
  return (await (await asked(path, init)).json()) as T;
}

async function asked(path: string, init?: RequestInit): Promise<Response> {
  const answer = await fetch(path, init);
  if (answer.ok) return answer;
  const said = (await answer.json().catch(() => ({}))) as { error?: { message?: string; problems?: Problem[] } };
  throw new Refused(said.error?.message ?? `the server answers ${answer.status}`, said.error?.problems);
}
