/** The keys of the whole page: those that people know from ComfyUI.  In a field, letters and undo are the field's. */

import { nodeId, write } from "../core/document";
import { removed, toggled } from "../core/edits";
import { act, redo, run, stop, store, undo } from "../store";
import { STRINGS } from "../strings";

type Way = () => unknown;

const ANYWHERE: Readonly<Record<string, Way>> = {
  "ctrl+enter": run,
  "ctrl+alt+enter": stop,
  "ctrl+s": download,
};

const ON_CANVAS: Readonly<Record<string, Way>> = {
  "ctrl+z": undo,
  "ctrl+y": redo,
  "ctrl+shift+z": redo,
  delete: () => remove(false),
  backspace: () => remove(false),
  "ctrl+delete": () => remove(true),
  "ctrl+backspace": () => remove(true),
  "ctrl+m": () => toggle("mute"),
  "ctrl+b": () => toggle("bypass"),
  "ctrl+a": () => store.setState({ selected: new Set(Object.keys(store.getState().document.graph)) }),
  escape: () => store.setState({ selected: new Set() }),
};

/** Listen to keys; `more` are those that need the view. */
export function listenToKeys(more: Readonly<Record<string, Way>>): () => void {
  const press = (event: KeyboardEvent): void => {
    const name = nameOf(event);
    const way = ANYWHERE[name] ?? (isField(event.target) || store.getState().asking ? undefined : { ...ON_CANVAS, ...more }[name]);
    if (!way) return;
    event.preventDefault();
    void way();
  };
  addEventListener("keydown", press);
  return () => removeEventListener("keydown", press);
}

/** The workflow as a file of the person's own. */
function download(): void {
  const url = URL.createObjectURL(new Blob([write(store.getState().document)], { type: "application/json" }));
  Object.assign(document.createElement("a"), { href: url, download: "workflow.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000); // the browser reads it after the click
}

function nameOf({ key, ctrlKey, metaKey, altKey, shiftKey }: KeyboardEvent): string {
  const parts = [(ctrlKey || metaKey) && "ctrl", altKey && "alt", shiftKey && "shift", key.toLowerCase()];
  return parts.filter(Boolean).join("+");
}

const isField = (target: EventTarget | null): boolean => target instanceof Element && target.closest("input, textarea, select") !== null;

function chosen(): ReturnType<typeof nodeId>[] {
  const { selected, document } = store.getState();
  return [...selected].filter((id) => Object.hasOwn(document.graph, id)).map(nodeId);
}

function remove(heal: boolean): void {
  const ids = new Set(chosen());
  if (ids.size) act(STRINGS.actions.remove, (document) => removed(document, ids, store.getState().catalogue, heal));
  store.setState({ selected: new Set() });
}

function toggle(mode: "mute" | "bypass"): void {
  const ids = chosen();
  if (ids.length) act(STRINGS.actions[mode], (document) => toggled(document, ids, mode));
}
