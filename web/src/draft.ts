/** The open workflow, kept in the browser with its history: it is there again after a reload, whatever happened. */

import { asJson, fromJson, type Document } from "./core/document";
import type { History } from "./core/history";
import { flat, parse, type Json } from "./core/json";

export interface Draft {
  readonly document: Document;
  readonly history: History;
}

const STORE = "drafts";
const TAB = "limner-document";

/** The name under which this tab keeps its document: tabs never write over each other's. */
export function documentName(): string {
  const known = sessionStorage.getItem(TAB);
  if (known) return known;
  const made = crypto.randomUUID();
  sessionStorage.setItem(TAB, made);
  return made;
}

export async function load(name: string): Promise<Draft | undefined> {
  const text = await asked<string | undefined>((await store("readonly")).get(name) as IDBRequest<string | undefined>);
  if (text === undefined) return undefined;
  const data = parse(text) as unknown as { document: Json; history: History };
  return { document: fromJson(data.document), history: data.history };
}

export async function save(name: string, { document, history }: Draft): Promise<void> {
  const text = flat({ document: asJson(document), history: history as unknown as Json });
  await asked((await store("readwrite")).put(text, name));
}

async function store(mode: IDBTransactionMode): Promise<IDBObjectStore> {
  const request = indexedDB.open("limner", 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE);
  return (await asked(request)).transaction(STORE, mode).objectStore(STORE);
}

function asked<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("the browser keeps nothing"));
  });
}
