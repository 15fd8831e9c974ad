/** How a run is going, node by node: what the server tells, added up.  Pure. */

import type { Job, Told } from "../server";

export interface NodeRun {
  readonly state: "running" | "done" | "cached" | "failed";
  readonly value?: number;
  readonly max?: number;
  readonly seconds?: number;
  readonly preview?: string;
  readonly pictures?: readonly string[];
  readonly message?: string;
}

export interface Progress {
  readonly job: string;
  readonly state: string; // of the job; "" before any
  readonly seconds: number | null;
  readonly message: string;
  readonly nodes: Readonly<Record<string, NodeRun>>;
}

export const IDLE: Progress = { job: "", state: "", seconds: null, message: "", nodes: {} };

/** Whether a job goes on. */
export const goesOn = ({ state }: Progress): boolean => state === "pending" || state === "running";

/** A job that has been posted.  The pictures of the last one stay until there are new ones. */
export function begun(before: Progress, job: string): Progress {
  const kept = Object.entries(before.nodes).flatMap(([id, node]) => (node.pictures ? [[id, { state: "done", pictures: node.pictures }] as const] : []));
  return { ...IDLE, job, state: "pending", nodes: Object.fromEntries<NodeRun>(kept) };
}

/** What is known of a job that was begun before this page was loaded. */
export function resumed(job: Job): Progress {
  const nodes: Record<string, NodeRun> = {};
  for (const { node, url } of job.pictures) nodes[node] = { state: "done", pictures: [...(nodes[node]?.pictures ?? []), url.replace(/^\//, "")] };
  const { node, value, max } = job.progress ?? {};
  if (node && job.state === "running") nodes[node] = { ...nodes[node], state: "running", ...(max ? { value: value ?? 0, max } : {}) };
  return ended({ job: job.id, state: job.state, seconds: job.seconds, message: "", nodes }, job.error);
}

/** The progress after something more is told of the job. */
export function heard(progress: Progress, told: Told, url: (file: NonNullable<NonNullable<Told["output"]>["images"]>[number]) => string): Progress {
  const id = told.display ?? "";
  const at = (node: NodeRun): Progress => ({ ...progress, nodes: { ...progress.nodes, [id]: node } });
  const before = progress.nodes[id] ?? { state: "running" };
  switch (told.event) {
    case "started":
      return { ...progress, state: "running" };
    case "cached":
      return (told.nodes ?? []).reduce((part, node) => ({ ...part, nodes: { ...part.nodes, [node]: { ...part.nodes[node], state: "cached" } } }), progress);
    case "node_started":
      return at({ ...only(before, "pictures"), state: "running" });
    case "progress":
      return at({ ...before, state: "running", value: told.value ?? 0, max: told.max ?? 1 });
    case "preview":
      return before.state === "running" ? at({ ...before, preview: told.image ?? "" }) : progress;
    case "node_finished":
      return at({
        state: told.status === "cached" ? "cached" : "done",
        ...only(before, "pictures"),
        ...(told.seconds == null ? {} : { seconds: told.seconds }),
        ...(told.output?.images ? { pictures: told.output.images.map(url) } : {}),
      });
    case "refused":
      return at({ state: "failed", message: told.message ?? "" });
    case "cancelled":
      return ended({ ...progress, state: "cancelled" }, null);
    case "finished":
      return ended({ ...progress, state: told.state ?? "done", seconds: told.seconds ?? null }, told.error ?? null);
    default:
      return progress;
  }
}

/** A job that is over has no node that runs; one that failed says where. */
function ended(progress: Progress, error: Job["error"]): Progress {
  if (goesOn(progress)) return progress;
  const still = Object.entries(progress.nodes).filter(([, node]) => node.state !== "running" || node.pictures);
  const nodes = Object.fromEntries(still.map(([id, node]) => [id, node.state === "running" ? { state: "done" as const, ...only(node, "pictures") } : node]));
  if (error?.node) nodes[error.node] = { state: "failed", message: error.message };
  return { ...progress, nodes, message: error?.message ?? "" };
}

function only(node: NodeRun, name: "pictures"): Pick<NodeRun, "pictures"> {
  return node[name] ? { [name]: node[name] } : {};
}
