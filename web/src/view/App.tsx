/** The page. */

import { ReactFlowProvider, useReactFlow } from "@xyflow/react";
import { useEffect, type ReactElement } from "react";
import { useStore } from "zustand";

import { store } from "../store";
import { STRINGS } from "../strings";
import { Bar } from "./Bar";
import { Canvas, whole } from "./Canvas";
import { listenToKeys } from "./keys";
import { Palette } from "./Palette";
import { Problems } from "./Problems";

export function App(): ReactElement {
  const ready = useStore(store, (state) => state.ready);
  const notice = useStore(store, (state) => state.notice);
  if (!ready) return <p className="waiting">{notice || STRINGS.connecting}</p>;
  return (
    <ReactFlowProvider>
      <Keys />
      <Bar />
      <Canvas />
      <Problems />
      <Palette />
    </ReactFlowProvider>
  );
}

/** Keys that need the view; and what is opened is shown whole. */
function Keys(): null {
  const { setViewport } = useReactFlow();
  const opened = useStore(store, (state) => state.opened);
  useEffect(() => listenToKeys({ ".": () => setViewport(whole(), { duration: 200 }) }), [setViewport]);
  useEffect(() => {
    if (opened > 0) void setViewport(whole());
  }, [opened, setViewport]);
  return null;
}
