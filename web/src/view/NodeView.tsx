/** A node: its name and state, its sockets in their colours, its widgets, and what it shows. */

import { Handle, Position, type NodeProps } from "@xyflow/react";
import { memo, type CSSProperties, type ReactElement } from "react";
import { useStore } from "zustand";

import { typeOf, type InputSpec, type NodeType } from "../core/catalogue";
import { inputsOf, isLink, metaOf, nodeId, type Entry, type Link } from "../core/document";
import { refusal } from "../core/edits";
import { own } from "../core/json";
import { shapeOf } from "../core/layout";
import type { NodeRun } from "../core/progress";
import type { Problem } from "../server";
import { store, type Plug } from "../store";
import { STRINGS } from "../strings";
import { colourOf } from "./colours";
import { Field } from "./Field";
import { counts, inputHandle, outputHandle, titleOf, type Box } from "./scene";
import { duration } from "./words";

export const NodeView = memo(function NodeView({ id, selected }: NodeProps<Box>): ReactElement | null {
  const entry = useStore(store, (state) => own(state.document.graph, id));
  return entry ? <Body id={id} entry={entry} selected={selected} /> : null;
});

function Body({ id, entry, selected }: { id: string; entry: Entry; selected: boolean }): ReactElement {
  const { document, catalogue } = store.getState();
  const type = typeOf(entry, document, catalogue);
  const planned = useStore(store, (state) => state.plan?.nodes.find((node) => node.id === id));
  const run = useStore(store, (state) => own(state.progress.nodes, id));
  const held = useStore(store, (state) => state.held);
  const problems = useStore(store, (state) => state.plan?.problems ?? NONE).filter((problem) => problem.node === id);
  const mode = own(metaOf(entry), "mode");
  const state = run?.state === "running" || run?.state === "failed" ? run.state : planned?.state;
  const title = titleOf(entry, type);
  const why = planned ? `${STRINGS.states[planned.state]}: ${planned.reason}` : "";
  const told = STRINGS.node(title, ...counts(document, id, type), planned ? STRINGS.states[planned.state] : "");
  const whole = problems.find((problem) => problem.input === null)?.message ?? (run?.state === "failed" ? run.message : undefined);
  const classes = ["node", state, selected && "selected", mode, type.missing && "missing", whole && "wrong"].filter(Boolean).join(" ");
  return (
    <article className={classes} aria-label={told} title={whole}>
      <header title={[type.missing ? STRINGS.missing : type.help, why].filter(Boolean).join("\n\n")}>
        <span className="lamp" aria-hidden />
        <h2>{title}</h2>
        <Badge run={run} />
      </header>
      {run?.state === "running" && <progress value={run.value ?? 0} max={run.max ?? 1} aria-label={title} />}
      <Sockets id={id} entry={entry} type={type} held={held} problems={problems} />
      <Shown type={type} run={run} />
    </article>
  );
}

const NONE: readonly Problem[] = [];

function Badge({ run }: { run: NodeRun | undefined }): ReactElement | null {
  if (run?.state === "running") return <span className="badge">{run.max ? `${run.value}/${run.max}` : "…"}</span>;
  return run?.seconds === undefined ? null : <span className="badge">{duration(run.seconds)}</span>;
}

interface Rows {
  readonly id: string;
  readonly entry: Entry;
  readonly type: NodeType;
  readonly held: Plug | null;
  readonly problems: readonly Problem[];
}

function Sockets({ id, entry, type, held, problems }: Rows): ReactElement {
  const shape = shapeOf(type);
  return (
    <div className="rows">
      {type.inputs.map((spec) => {
        const row = shape.inputs.get(spec.name)!;
        const linked = isLink(own(inputsOf(entry), spec.name));
        const wrong = problems.find((problem) => problem.input === spec.name)?.message;
        const style = { top: row.y - row.height / 2, height: row.height };
        const classes = ["row", "in", spec.widget && !linked && "widget", spec.multiline && !linked && "tall", wrong && "wrong"].filter(Boolean).join(" ");
        return (
          <div key={spec.name} className={classes} style={style} title={wrong ?? spec.help}>
            <InputDot id={id} spec={spec} held={held} linked={linked} />
            <label>{spec.name}</label>
            {spec.widget && !linked && <Field id={nodeId(id)} entry={entry} spec={spec} />}
          </div>
        );
      })}
      {type.outputs.map((output, k) => {
        const row = shape.outputs[k]!;
        const no = held?.side === "output" ? refused([nodeId(id), k], held) : held ? "" : undefined;
        return (
          <div key={k} className="row out" style={{ top: row.y - row.height / 2, height: row.height }}>
            <label>{output.name}</label>
            <Dot handle={outputHandle(k)} wire={output.wire} side="output" no={no} full />
          </div>
        );
      })}
    </div>
  );
}

function InputDot({ id, spec, held, linked }: { id: string; spec: InputSpec; held: Plug | null; linked: boolean }): ReactElement {
  const no = held?.side === "input" ? reason([held.node, Number(held.socket)], id, spec.name) : held ? "" : undefined;
  return <Dot handle={inputHandle(spec.name)} wire={spec.wire} side="input" no={no} full={linked || !spec.widget} />;
}

/** A socket.  `no` says why what somebody holds cannot be plugged in here; undefined while it can, or nobody holds anything. */
function Dot({ handle, wire, side, no, full }: { handle: string; wire: string; side: "input" | "output"; no: string | undefined; full: boolean }): ReactElement {
  const style = { "--wire": colourOf(wire) } as CSSProperties;
  const classes = ["dot", no !== undefined && "dim", !full && "hollow"].filter(Boolean).join(" ");
  const [type, position] = side === "input" ? (["target", Position.Left] as const) : (["source", Position.Right] as const);
  return <Handle id={handle} type={type} position={position} className={classes} style={style} title={no || wire} />;
}

function reason(link: Link, node: string, input: string): string | undefined {
  const { document, catalogue } = store.getState();
  return refusal(document, catalogue, link, { node: nodeId(node), input });
}

const refused = (link: Link, held: Plug): string | undefined => reason(link, held.node, held.socket);

function Shown({ type, run }: { type: NodeType; run: NodeRun | undefined }): ReactElement | null {
  const row = shapeOf(type).picture;
  const source = run?.pictures?.[0] ?? undefined;
  const preview = run?.state === "running" ? run.preview : undefined;
  if (!row) return preview ? <img className="preview" src={preview} alt="" /> : null;
  return (
    <div className="picture" style={{ top: row.y - row.height / 2, height: row.height }}>
      {source ? <img src={source} alt={type.title} draggable={false} /> : <span>{STRINGS.noPicture}</span>}
    </div>
  );
}
