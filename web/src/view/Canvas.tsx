/** The canvas: what a hand does to nodes and links becomes edits of the document. */

import {
  applyNodeChanges,
  Background,
  BackgroundVariant,
  getNodesBounds,
  getViewportForBounds,
  ReactFlow,
  useReactFlow,
  type Connection,
  type IsValidConnection,
  type NodeChange,
  type OnConnectEnd,
  type OnConnectStart,
  type OnNodeDrag,
  type Viewport,
} from "@xyflow/react";
import { useCallback, useEffect, useMemo, useRef, useState, type DragEvent, type MouseEvent, type ReactElement } from "react";
import { useStore } from "zustand";

import { inputsOf, isLink, nodeId, type Document, type Link, type NodeId } from "../core/document";
import { bestInput, connected, disconnected, moved, refusal, spliced, type Point, type Socket } from "../core/edits";
import { GRID } from "../core/layout";
import { act, open, store, type Plug } from "../store";
import { STRINGS } from "../strings";
import { colourOf } from "./colours";
import { NodeView } from "./NodeView";
import { boxes, handled, plugWire, wires, type Box, type Wire } from "./scene";

const TYPES = { limner: NodeView };

const FIT = { padding: 0.08, maxZoom: 1 } as const;
const FURTHEST = 0.1; // how far one can zoom out

/** The view in which the whole workflow is seen: of the document itself, which may not be drawn yet. */
export function whole(): Viewport {
  const { document, catalogue } = store.getState();
  const { clientWidth, clientHeight } = window.document.querySelector("main")!;
  return getViewportForBounds(getNodesBounds(boxes(document, catalogue, new Set(), [])), clientWidth, clientHeight, FURTHEST, FIT.maxZoom, FIT.padding);
}

export function Canvas(): ReactElement {
  const document = useStore(store, (state) => state.document);
  const catalogue = useStore(store, (state) => state.catalogue);
  const selected = useStore(store, (state) => state.selected);
  const held = useStore(store, (state) => state.held?.wire);
  const line = useMemo(() => (held === undefined ? {} : { stroke: colourOf(held) }), [held]);
  const [nodes, setNodes] = useState<Box[]>(() => boxes(document, catalogue, selected, []));
  const [edges, setEdges] = useState<Wire[]>(() => wires(document, catalogue, []));
  const hand = useReactFlow<Box, Wire>();
  useEffect(() => setNodes((before) => boxes(document, catalogue, selected, before)), [document, catalogue, selected]);
  useEffect(() => setEdges((before) => wires(document, catalogue, before)), [document, catalogue]);
  const change = useCallback((changes: NodeChange<Box>[]): void => {
    const chosen = changes.filter((one) => one.type === "select");
    if (chosen.length) {
      const after = new Set(store.getState().selected);
      for (const one of chosen) one.selected ? after.add(one.id) : after.delete(one.id);
      store.setState({ selected: after });
    }
    const rest = changes.filter((one) => one.type === "position");
    if (rest.length) setNodes((before) => applyNodeChanges(rest, before));
  }, []);
  const askAt = useCallback(
    (screen: Point, from?: Plug): void => store.setState({ asking: { screen, at: hand.screenToFlowPosition(screen), ...(from ? { from } : {}) } }),
    [hand],
  );
  const holding = useHolding(askAt);
  usePlaceForKeys(askAt);
  return (
    <main aria-label={STRINGS.canvas} onDragOver={(event) => event.preventDefault()} onDrop={(event) => void openDropped(event)} onDoubleClick={(event) => onPane(event) && askAt({ x: event.clientX, y: event.clientY })}>
      <ReactFlow<Box, Wire>
        nodes={nodes}
        edges={edges}
        nodeTypes={TYPES}
        onNodesChange={change}
        onNodeDragStop={dropped}
        onConnect={plug}
        onConnectStart={holding.start}
        onConnectEnd={holding.end}
        isValidConnection={allowed}
        onEdgeDoubleClick={(_, wire) => wire.data && act(STRINGS.actions.unwire, (before) => disconnected(before, wire.data!.to))}
        onlyRenderVisibleElements
        fitView
        fitViewOptions={FIT}
        connectionLineStyle={line}
        minZoom={FURTHEST}
        maxZoom={2.5}
        snapToGrid
        snapGrid={[GRID, GRID]}
        zoomOnDoubleClick={false}
        deleteKeyCode={null}
        selectionKeyCode="Control"
        multiSelectionKeyCode={["Shift", "Control", "Meta"]}
        connectionRadius={24}
        connectOnClick
        elevateEdgesOnSelect
        proOptions={{ hideAttribution: false }}
      >
        <Background variant={BackgroundVariant.Dots} gap={GRID * 2} size={1} />
      </ReactFlow>
    </main>
  );
}

/** A file that is let go over the canvas is opened. */
async function openDropped(event: DragEvent): Promise<void> {
  event.preventDefault();
  const file = event.dataTransfer.files[0];
  if (file) open(await file.text());
}

const onPane = (event: MouseEvent): boolean => (event.target as Element).classList.contains("react-flow__pane");

/** What somebody holds the end of, while they hold it: sockets that it does not fit into dim. */
function useHolding(open: (at: Point, from?: Plug) => void): { start: OnConnectStart; end: OnConnectEnd } {
  const start: OnConnectStart = useCallback((_, { nodeId: node, handleId }) => {
    const { document, catalogue } = store.getState();
    if (node === null || handleId === null) return;
    const { side, socket } = handled(handleId);
    const wire = plugWire(document, catalogue, node, side, socket);
    store.setState({ held: { node: nodeId(node), socket, wire, side: side === "input" ? "output" : "input" } });
  }, []);
  const end: OnConnectEnd = useCallback(
    (event, state) => {
      const { held } = store.getState();
      store.setState({ held: null });
      if (!held || state.isValid) return;
      const { clientX: x, clientY: y } = "changedTouches" in event ? event.changedTouches[0]! : event;
      const under = window.document.elementFromPoint(x, y);
      const node = under?.closest<HTMLElement>(".react-flow__node")?.dataset["id"];
      if (node !== undefined) plugIntoBody(held, nodeId(node));
      else if (under?.closest(".react-flow__pane")) open({ x, y }, held);
    },
    [open],
  );
  return { start, end };
}

/** Tab opens the palette where the pointer is, or in the middle. */
function usePlaceForKeys(open: (at: Point) => void): void {
  const pointer = useRef<Point | null>(null);
  useEffect(() => {
    const follow = (event: PointerEvent): void => void (pointer.current = { x: event.clientX, y: event.clientY });
    const press = (event: KeyboardEvent): void => {
      const resting = event.target === window.document.body || (event.target as Element).closest(".react-flow__pane, .react-flow__node:focus") === event.target;
      if (event.key !== "Tab" || event.shiftKey || event.ctrlKey || event.altKey || !resting || store.getState().asking) return;
      event.preventDefault();
      open(pointer.current ?? { x: innerWidth / 2, y: innerHeight / 3 });
    };
    addEventListener("pointermove", follow, { passive: true });
    addEventListener("keydown", press);
    return () => {
      removeEventListener("pointermove", follow);
      removeEventListener("keydown", press);
    };
  }, [open]);
}

/** A link dropped on a node's body goes where it fits best. */
function plugIntoBody(held: Plug, node: NodeId): void {
  const { document, catalogue } = store.getState();
  if (held.side === "input") {
    const link: Link = [held.node, Number(held.socket)];
    const input = bestInput(document, catalogue, link, node);
    if (input) act(STRINGS.actions.wire, (before) => connected(before, link, { node, input: input.name }));
    return;
  }
  const to: Socket = { node: held.node, input: held.socket };
  for (let k = 0; wireExists(document, node, k); k++) {
    if (!refusal(document, catalogue, [node, k], to)) return act(STRINGS.actions.wire, (before) => connected(before, [node, k], to));
  }
}

const wireExists = (document: Document, node: NodeId, output: number): boolean =>
  window.document.querySelector(`.react-flow__node[data-id="${CSS.escape(node)}"] [data-handleid="out:${output}"]`) !== null && Object.hasOwn(document.graph, node);

function ends({ source, sourceHandle, target, targetHandle }: Connection | Wire): readonly [Link, Socket] {
  return [
    [nodeId(source), Number(handled(sourceHandle ?? "").socket)],
    { node: nodeId(target), input: handled(targetHandle ?? "").socket },
  ];
}

const allowed: IsValidConnection<Wire> = (connection) => {
  const { document, catalogue } = store.getState();
  return refusal(document, catalogue, ...ends(connection)) === undefined;
};

function plug(connection: Connection): void {
  act(STRINGS.actions.wire, (document) => connected(document, ...ends(connection)));
}

/** Nodes that were dragged stand where they were left; a lone one that was left on a link goes into it. */
const dropped: OnNodeDrag<Box> = (event, node, dragged) => {
  const places = new Map(dragged.map((one) => [nodeId(one.id), one.position]));
  const { clientX: x, clientY: y } = "changedTouches" in event ? (event as unknown as TouchEvent).changedTouches[0]! : event;
  const { document, catalogue } = store.getState();
  const under = window.document.elementsFromPoint(x, y).map((element) => element.closest<HTMLElement>(".react-flow__edge")?.dataset["id"]);
  const wire = dragged.length === 1 && isAlone(document, node.id) ? wires(document, catalogue, []).find((one) => under.includes(one.id)) : undefined;
  const after = wire && spliced(moved(document, places), nodeId(node.id), ...ends(wire), catalogue);
  if (after) act(STRINGS.actions.splice, () => after);
  else if (dragged.some((one) => differs(one))) act(STRINGS.actions.move, (before) => moved(before, places));
};

function differs(box: Box): boolean {
  const before = boxes(store.getState().document, store.getState().catalogue, new Set(), []).find((one) => one.id === box.id);
  return before?.position.x !== box.position.x || before.position.y !== box.position.y;
}

/** Whether nothing is plugged into a node, and it into nothing. */
function isAlone(document: Document, id: string): boolean {
  return Object.entries(document.graph).every(([other, entry]) => Object.values(inputsOf(entry)).every((value) => !isLink(value) || (other !== id && value[0] !== id)));
}
