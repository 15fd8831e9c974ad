/** All that is wrong with the workflow, and the way to each. */

import { useReactFlow } from "@xyflow/react";
import type { ReactElement } from "react";
import { useStore } from "zustand";

import type { Problem } from "../server";
import { store } from "../store";
import { STRINGS } from "../strings";

const NONE: readonly Problem[] = [];

export function Problems(): ReactElement | null {
  const problems = useStore(store, (state) => state.plan?.problems ?? NONE);
  const { fitView } = useReactFlow();
  if (problems.length === 0) return null;
  const go = (node: string): void => {
    store.setState({ selected: new Set([node]) });
    void fitView({ nodes: [{ id: node }], maxZoom: 1, duration: 200 });
  };
  return (
    <aside className="problems" aria-label={STRINGS.problems(problems.length)}>
      <h2>{STRINGS.problems(problems.length)}</h2>
      <ul>
        {problems.map(({ node, input, message }, k) => (
          <li key={k}>
            <button type="button" onClick={() => go(node)}>
              <b>{input ? `${node}.${input}` : node}</b> {message}
            </button>
          </li>
        ))}
      </ul>
    </aside>
  );
}
