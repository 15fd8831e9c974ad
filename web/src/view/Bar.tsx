/** The bar at the top: what to open, undo and redo, how the run goes, and the button that begins it. */

import type { ReactElement } from "react";
import { useStore } from "zustand";

import { goesOn, type Progress } from "../core/progress";
import type { Plan } from "../server";
import { openExample, redo, run, stop, store, undo, type State } from "../store";
import { STRINGS } from "../strings";
import { duration } from "./words";

export function Bar(): ReactElement {
  const past = useStore(store, (state) => state.history.past.at(-1)?.label);
  const future = useStore(store, (state) => state.history.future[0]?.label);
  const examples = useStore(store, (state) => state.examples);
  const running = useStore(store, (state) => goesOn(state.progress));
  const plan = useStore(store, (state) => state.plan);
  const kept = useStore(store, (state) => state.kept);
  return (
    <header className="bar">
      <h1 data-kept={kept}>Limner</h1>
      <select aria-label={STRINGS.examples} value="" onChange={(event) => {
          void openExample(event.target.value);
          event.target.blur(); // keys are the canvas's again
        }}>
        <option value="" disabled>
          {STRINGS.examples}
        </option>
        {examples.map(({ name, about }) => (
          <option key={name} value={name} title={about}>
            {name.replaceAll("-", " ")}
          </option>
        ))}
      </select>
      <button type="button" disabled={!past} onClick={undo} title={past && `${STRINGS.undo}: ${past} (Ctrl+Z)`} aria-label={STRINGS.undo}>
        ↶
      </button>
      <button type="button" disabled={!future} onClick={redo} title={future && `${STRINGS.redo}: ${future} (Ctrl+Y)`} aria-label={STRINGS.redo}>
        ↷
      </button>
      <Status />
      {running && (
        <button type="button" className="stop" onClick={() => void stop()} title="Ctrl+Alt+Enter">
          {STRINGS.stop}
        </button>
      )}
      <button type="button" className="run" onClick={() => void run()} title="Ctrl+Enter">
        {running ? STRINGS.run : invitation(plan)}
      </button>
    </header>
  );
}

/** What a run would cost: "Run 3 of 14 nodes, about 6 s". */
export function invitation(plan: Plan | null): string {
  if (!plan || plan.counts.blocked > 0) return STRINGS.run;
  if (plan.counts.total === 0) return STRINGS.nothingToRun;
  if (plan.counts.run === 0) return STRINGS.allCached;
  const time = plan.seconds > 0 && plan.unknown === 0 ? STRINGS.about(duration(plan.seconds)) : "";
  return STRINGS.runCounts(plan.counts.run, plan.counts.total) + time;
}

function Status(): ReactElement {
  const notice = useStore(store, (state) => state.notice);
  const text = useStore(store, spoken);
  return (
    <p className={notice ? "status wrong" : "status"} role="status" aria-live="polite">
      {notice || text}
    </p>
  );
}

function spoken({ online, progress, remaining }: State): string {
  if (online === false) return STRINGS.lost;
  if (online === null) return STRINGS.connecting;
  return progress.state ? [told(progress), remaining > 1 ? STRINGS.queued(remaining) : ""].filter(Boolean).join(" · ") : STRINGS.hint;
}

function told({ state, seconds, nodes, message }: Progress): string {
  if (state === "done") return STRINGS.done(duration(seconds ?? 0));
  if (state === "interrupted" || state === "cancelled") return STRINGS.interrupted;
  if (state === "failed") return `${STRINGS.failed}: ${message}`;
  const found = Object.entries(nodes).find(([, node]) => node.state === "running");
  if (!found) return STRINGS.queued(1);
  const [id, { value, max }] = found;
  return STRINGS.running(id) + (max ? `, ${STRINGS.step(value ?? 0, max)}` : "");
}
