/** A widget: a value that is typed in or chosen, in place.  The browser's own fields, with their own undo. */

import { useEffect, useState, type ReactElement } from "react";

import type { InputSpec } from "../core/catalogue";
import { inputsOf, type Entry, type NodeId } from "../core/document";
import { withValue } from "../core/edits";
import { Exact, isObject, numeric, own, type Json } from "../core/json";
import { CONTROLS, controlOf, withControl, type Control } from "../core/seeds";
import { models } from "../server";
import { act, close, reported } from "../store";
import { STRINGS } from "../strings";

interface Props {
  readonly id: NodeId;
  readonly entry: Entry;
  readonly spec: InputSpec;
}

export function Field({ id, entry, spec }: Props): ReactElement {
  const given = own(inputsOf(entry), spec.name);
  const value = given ?? spec.default ?? null;
  const set = (next: Json, key = ""): void => act(STRINGS.actions.value, (document) => withValue(document, { node: id, input: spec.name }, next), key);
  const key = `${id}.${spec.name}`;
  if (spec.options) return <Choice name={spec.name} value={value} options={spec.options} set={set} />;
  if (spec.models !== undefined) return <ModelFile name={spec.name} value={value} folder={spec.models} set={set} />;
  if (spec.wire === "BOOLEAN") return <input type="checkbox" className="nodrag" aria-label={spec.name} checked={value === true} onChange={(event) => set(event.target.checked)} />;
  if (spec.wire === "INT" || spec.wire === "FLOAT") {
    const number = <NumberField spec={spec} value={value} set={(next) => set(next, key)} />;
    return spec.seed ? <Seed id={id} entry={entry} spec={spec} number={number} /> : number;
  }
  return <Text name={spec.name} value={said(value)} multiline={spec.multiline ?? false} set={(next) => set(next, key)} />;
}

/** A text: what is typed reaches the document with every letter, and is one action until the field is left. */
function Text({ name, value, multiline, set }: { name: string; value: string; multiline: boolean; set: (next: string) => void }): ReactElement {
  const rest = {
    "aria-label": name,
    value,
    spellCheck: false,
    onBlur: close,
    onChange: (event: { target: { value: string } }) => set(event.target.value),
  };
  return multiline ? <textarea className="nodrag nowheel" {...rest} /> : <input type="text" className="nodrag" {...rest} />;
}

/** A number: what is no number stays in the field until it is one, or the field is left. */
function NumberField({ spec, value, set }: { spec: InputSpec; value: Json; set: (next: number) => void }): ReactElement {
  const [typed, setTyped] = useState<string | null>(null);
  const whole = spec.wire === "INT";
  const change = (text: string): void => {
    setTyped(text);
    const next = Number(text);
    if (text.trim() !== "" && Number.isFinite(next) && (!whole || Number.isSafeInteger(next))) set(next);
  };
  const step = (ways: number): void => {
    const size = spec.step ?? (whole ? 1 : 0.1);
    const next = Math.round(((numeric(value) ?? 0) + ways * size) * 1e9) / 1e9;
    setTyped(null);
    set(Math.min(Math.max(next, spec.min ?? -Infinity), spec.max ?? Infinity));
  };
  const text = typed ?? (value instanceof Exact && Number.isFinite(Number(value.text)) && !whole ? String(Number(value.text)) : said(value));
  const wrong = typed !== null && (typed.trim() === "" || !Number.isFinite(Number(typed)) || (whole && !Number.isInteger(Number(typed))));
  return (
    <input
      type="text"
      inputMode={whole ? "numeric" : "decimal"}
      className="nodrag number"
      aria-label={spec.name}
      aria-invalid={wrong}
      value={text}
      onChange={(event) => change(event.target.value)}
      onBlur={() => {
        setTyped(null);
        close();
      }}
      onKeyDown={(event) => {
        const ways = event.key === "ArrowUp" ? 1 : event.key === "ArrowDown" ? -1 : 0;
        if (ways === 0) return;
        event.preventDefault();
        step(event.shiftKey ? ways * 10 : ways);
      }}
    />
  );
}

function Seed({ id, entry, spec, number }: Props & { number: ReactElement }): ReactElement {
  const change = (control: Control): void => act(STRINGS.actions.value, (document) => withControl(document, id, spec.name, control));
  return (
    <div className="seed">
      {number}
      <select className="nodrag" aria-label={STRINGS.control} title={STRINGS.control} value={controlOf(entry, spec.name)} onChange={(event) => change(event.target.value as Control)}>
        {CONTROLS.map((control) => (
          <option key={control} value={control}>
            {STRINGS.controls[control]}
          </option>
        ))}
      </select>
    </div>
  );
}

/** A choice.  A value that is not offered is shown and kept: validation says so. */
function Choice({ name, value, options, set }: { name: string; value: Json; options: readonly Json[]; set: (next: Json) => void }): ReactElement {
  const known = options.some((option) => said(option) === said(value));
  return (
    <select
      className="nodrag"
      aria-label={name}
      aria-invalid={!known}
      value={said(value)}
      onChange={(event) => set(options.find((option) => said(option) === event.target.value) ?? event.target.value)}
    >
      {!known && <option value={said(value)}>{said(value) || "—"}</option>}
      {options.map((option) => (
        <option key={said(option)} value={said(option)}>
          {said(option)}
        </option>
      ))}
    </select>
  );
}

function ModelFile({ name, value, folder, set }: { name: string; value: Json; folder: string; set: (next: Json) => void }): ReactElement {
  const [files, setFiles] = useState<readonly string[]>([said(value)]);
  useEffect(() => {
    let there = true;
    void reported(async () => {
      const found = await models(folder);
      if (there) setFiles(found);
    });
    return () => void (there = false);
  }, [folder]);
  return <Choice name={name} value={value} options={files} set={set} />;
}

function said(value: Json): string {
  if (value === null) return "";
  if (value instanceof Exact) return value.text;
  return isObject(value) || Array.isArray(value) ? JSON.stringify(value) : String(value);
}
