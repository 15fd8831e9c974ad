/** JSON that comes out as it went in: a number that JavaScript would write otherwise keeps its text. */

/** A number whose text is not what JavaScript would write: 3.0, or a seed beyond 2^53. */
export class Exact {
  constructor(readonly text: string) {}
}

export type Json = null | boolean | number | string | Exact | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [name: string]: Json;
}

/** What is read: a text that is no JSON raises a SyntaxError. */
export function parse(text: string): Json {
  const mark = unused(text);
  const marked = text.replace(TOKEN, (token) => (token[0] === '"' || String(Number(token)) === token ? token : `"${mark}${token}"`));
  if (marked === text) return JSON.parse(text) as Json;
  JSON.parse(text); // a marked number may stand where none may: the text itself decides
  return JSON.parse(marked, (_, value: unknown) =>
    typeof value === "string" && value.startsWith(mark) ? new Exact(value.slice(mark.length)) : value,
  ) as Json;
}

/** JSON on one line, as Python's json module writes it with sorted keys. */
export function flat(value: Json): string {
  if (value instanceof Exact) return value.text;
  if (isList(value)) return `[${value.map(flat).join(", ")}]`;
  if (!isObject(value)) return JSON.stringify(value);
  const rows = Object.keys(value)
    .sort(byCodePoint)
    .map((key) => `${JSON.stringify(key)}: ${flat(value[key]!)}`);
  return `{${rows.join(", ")}}`;
}

/** A number as JavaScript has it: the nearest to what the text says. */
export function numeric(value: Json | undefined): number | undefined {
  if (value instanceof Exact) return Number(value.text);
  return typeof value === "number" ? value : undefined;
}

export const isList = (value: Json | undefined): value is readonly Json[] => Array.isArray(value);

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !isList(value) && !(value instanceof Exact);
}

/** The property that an object itself has: a node may be called `constructor`. */
export function own<T>(object: { readonly [name: string]: T } | undefined, name: string): T | undefined {
  return object !== undefined && Object.hasOwn(object, name) ? object[name] : undefined;
}

/** The object with a property set, or without it if `value` is undefined. */
export function withProperty<T>(object: { readonly [name: string]: T }, name: string, value: T | undefined): { readonly [name: string]: T } {
  if (value !== undefined) return { ...object, [name]: value };
  const { [name]: _, ...rest } = object;
  return rest;
}

/** The order of Python's strings: JavaScript's own is that of UTF-16. */
export function byCodePoint(a: string, b: string): number {
  for (let i = 0; i < a.length && i < b.length; i++) {
    if (a[i] !== b[i]) return whole(a.charCodeAt(i)) - whole(b.charCodeAt(i));
  }
  return a.length - b.length;
}

const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;

/** Surrogates stand for what lies beyond all other units. */
const whole = (unit: number): number => (unit >= 0xd800 && unit < 0xe000 ? unit + 0x10000 : unit);

function unused(text: string): string {
  let mark = "exact:";
  while (text.includes(mark)) mark = `exact-${mark}`;
  return mark;
}
