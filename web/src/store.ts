/** What the page holds: one document with its history, what is selected, and what the server says of it. */

import { createStore } from "zustand/vanilla";

import type { Catalogue } from "./core/catalogue";
import { EMPTY, read, type Document, type NodeId } from "./core/document";
import type { Point } from "./core/edits";
import { closed, NEW, recorded, redone, undone, type History } from "./core/history";
import { laidOut } from "./core/layout";
import type { Wanted } from "./core/palette";
import { begun, goesOn, heard, IDLE, resumed, type Progress } from "./core/progress";
import { advanced } from "./core/seeds";
import { documentName, load, save } from "./draft";
import * as server from "./server";
import { STRINGS } from "./strings";

/** Where the palette was opened, and what the node that is chosen is plugged into. */
export interface Asking {
  readonly screen: Point;
  readonly at: Point;
  readonly from?: Plug;
}

/** The end of a link that somebody holds. */
export interface Plug extends Wanted {
  readonly node: NodeId;
  readonly socket: string; // the name of an input, or the number of an output
}

export interface State {
  readonly catalogue: Catalogue;
  readonly examples: readonly server.Example[];
  readonly document: Document;
  readonly history: History;
  readonly selected: ReadonlySet<string>;
  readonly held: Plug | null;
  readonly asking: Asking | null;
  readonly uses: ReadonlyMap<string, number>;
  readonly plan: server.Plan | null;
  readonly progress: Progress;
  readonly remaining: number;
  readonly online: boolean | null; // null: not yet known
  readonly ready: boolean;
  readonly opened: number; // how many files have been: each is shown whole
  readonly kept: boolean; // whether the draft is as the page shows it
  readonly notice: string;
}

export const store = createStore<State>(() => ({
  catalogue: {},
  examples: [],
  document: EMPTY,
  history: NEW,
  selected: new Set(),
  held: null,
  asking: null,
  uses: new Map(),
  plan: null,
  progress: IDLE,
  remaining: 0,
  online: null,
  ready: false,
  opened: 0,
  kept: false,
  notice: "",
}));

const { getState: get, setState: set } = store;
const PAUSE = 60; // milliseconds without an edit before the plan is asked for
const KEPT = 250; // milliseconds without an edit before the draft is written
const FIRST = "text-to-image"; // what a new page shows

/** Do something to the document, as one action that can be undone.  Actions with the same key are one. */
export function act(label: string, edit: (document: Document) => Document, key = ""): void {
  const { document, history } = get();
  const after = edit(document);
  if (after !== document) set({ document: after, history: recorded(history, label, document, after, key), notice: "" });
}

/** The field that was typed into is left. */
export const close = (): void => set({ history: closed(get().history) });

export const undo = (): void => step(undone);
export const redo = (): void => step(redone);

function step(way: typeof undone): void {
  const [document, history] = way(get().document, get().history);
  const selected = new Set([...get().selected].filter((id) => Object.hasOwn(document.graph, id)));
  set({ document, history, selected });
}

/** Open a file's text in place of what is there; that can be undone. */
export function open(text: string): void {
  try {
    const opened = laidOut(read(text), get().catalogue);
    act(STRINGS.actions.open, () => opened);
    set({ selected: new Set(), progress: IDLE, opened: get().opened + 1 });
  } catch (error) {
    set({ notice: (error as Error).message });
  }
}

export async function openExample(name: string): Promise<void> {
  await reported(async () => open(await server.exampleText(name)));
}

/** Have the document run: seeds move first, so that what is shown is what is used. */
export async function run(): Promise<void> {
  act(STRINGS.actions.seeds, (document) => advanced(document, get().catalogue));
  await reported(async () => {
    const job = await server.run(get().document, documentName());
    if (get().progress.job !== job.id) set({ progress: begun(get().progress, job.id) });
  });
}

export async function stop(): Promise<void> {
  const { progress } = get();
  if (goesOn(progress)) await reported(() => server.stop(progress.job));
}

/** Begin: what nodes there are, the draft of this tab or the first example, and what is running. */
export async function begin(): Promise<void> {
  await reported(async () => {
    const [catalogue, examples, draft] = await Promise.all([server.catalogue(), server.examples(), load(documentName()).catch(() => undefined)]);
    set({ catalogue, examples });
    if (draft) set(draft);
    else set({ document: laidOut(read(await server.exampleText(FIRST)), catalogue) });
    const last = await server.lastJob(documentName());
    set({ ready: true, ...(last ? { progress: resumed(last) } : {}) });
    server.listen(hear, (online) => set({ online }));
    watch();
  });
}

/** Do something that the server may refuse; its words are shown. */
export async function reported(work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    set({ notice: (error as Error).message });
  }
}

function hear(told: server.Told): void {
  if (told.remaining !== undefined) set({ remaining: told.remaining });
  if (told.event === "snapshot" || told.event === "reset") return caughtUp(told.jobs ?? []);
  if (told.client !== documentName() || !told.job) return;
  const { progress } = get();
  const mine = told.job === progress.job ? progress : told.event === "started" || told.event === "queued" ? begun(progress, told.job) : undefined;
  if (!mine) return;
  set({ progress: heard(mine, told, server.viewUrl) });
  if (told.event === "finished") void replan(get().document);
}

/** What runs is known again after the line was broken; what has ended meanwhile is asked for. */
function caughtUp(jobs: readonly server.Job[]): void {
  const mine = jobs.findLast((job) => job.client === documentName());
  const { progress } = get();
  if (mine && mine.id !== progress.job) set({ progress: resumed(mine) });
  else if (!mine && goesOn(progress)) void reported(async () => set({ progress: resumed((await server.lastJob(documentName()))!) }));
}

let planning: AbortController | undefined;

async function replan(document: Document): Promise<void> {
  planning?.abort();
  planning = new AbortController();
  const { signal } = planning;
  try {
    const plan = await server.plan(document, signal);
    if (!signal.aborted) set({ plan });
  } catch (error) {
    if (!signal.aborted) set({ plan: null, notice: (error as Error).message });
  }
}

/** Write the draft. */
async function keep(): Promise<void> {
  const { document, history } = get();
  await reported(() => save(documentName(), { document, history }));
  if (get().document === document && get().history === history) set({ kept: true });
}

/** After edits: what would run is asked for, and the draft is written. */
function watch(): void {
  let planned: Document | undefined;
  let [asking, keeping]: (number | undefined)[] = [];
  const look = ({ document }: State): void => {
    if (document.graph !== planned?.graph || document.definitions !== planned.definitions) {
      planned = document;
      clearTimeout(asking);
      asking = window.setTimeout(() => void replan(document), PAUSE);
    }
    clearTimeout(keeping);
    set({ kept: false });
    keeping = window.setTimeout(() => void keep(), KEPT);
  };
  look(get());
  store.subscribe((now, before) => {
    if (now.document !== before.document || now.history !== before.history) look(now);
  });
  addEventListener("pagehide", () => void keep());
}
