/** The palette: type a few letters, Enter, and the node is there, wired up if a link was held. */

import { useEffect, useMemo, useRef, useState, type KeyboardEvent, type ReactElement } from "react";
import { useStore } from "zustand";

import { listed, search } from "../core/palette";
import type { NodeType } from "../core/catalogue";
import { added, bestInput, connected } from "../core/edits";
import { nodeId, type Document, type NodeId } from "../core/document";
import { fits } from "../core/wires";
import { act, store, type Asking, type Plug } from "../store";
import { STRINGS } from "../strings";
import { colourOf } from "./colours";

export function Palette(): ReactElement | null {
  const asking = useStore(store, (state) => state.asking);
  return asking && <Dialog key={`${asking.at.x},${asking.at.y}`} asking={asking} />;
}

function Dialog({ asking }: { asking: Asking }): ReactElement {
  const [query, setQuery] = useState("");
  const [chosen, setChosen] = useState(0);
  const catalogue = useStore(store, (state) => state.catalogue);
  const uses = useStore(store, (state) => state.uses);
  const list = useMemo(() => listed(Object.values(catalogue)), [catalogue]);
  const found = useMemo(() => search(list, query, asking.from, uses), [list, query, asking, uses]);
  const options = useRef<HTMLUListElement>(null);
  useEffect(() => {
    void options.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
  }, [chosen, found]);
  const keys = (event: KeyboardEvent): void => {
    const ways = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (ways) setChosen((chosen + ways + found.length) % Math.max(found.length, 1));
    else if (event.key === "Enter" && found[chosen]) place(found[chosen].type, asking);
    else if (event.key === "Escape" || event.key === "Tab") shut();
    else return;
    event.preventDefault();
  };
  const { x, y } = asking.screen;
  return (
    <div className="veil" onPointerDown={(event) => event.target === event.currentTarget && shut()}>
      <div className="palette" role="dialog" aria-label={STRINGS.addNode} style={{ left: Math.min(x, innerWidth - 380), top: Math.min(y, innerHeight - 400) }}>
        <input
          autoFocus
          role="combobox"
          aria-expanded
          aria-controls="palette-list"
          aria-activedescendant={found[chosen] ? `palette-${chosen}` : undefined}
          aria-label={STRINGS.search}
          placeholder={asking.from ? `${STRINGS.search}: ${asking.from.wire}` : STRINGS.search}
          value={query}
          onChange={(event) => {
            setQuery(event.target.value);
            setChosen(0);
          }}
          onKeyDown={keys}
        />
        <ul id="palette-list" role="listbox" aria-label={STRINGS.addNode} ref={options}>
          {found.map(({ type }, k) => (
            <li key={type.id} id={`palette-${k}`} role="option" aria-selected={k === chosen} title={type.help} onPointerMove={() => setChosen(k)} onClick={() => place(type, asking)}>
              <span className="name">{type.title}</span>
              <span className="from">{type.id.startsWith("limner.") ? type.category : `${type.category} · ${type.id}`}</span>
              <span className="gives" aria-hidden>
                {type.outputs.slice(0, 4).map((output, at) => (
                  <i key={at} style={{ background: colourOf(output.wire) }} />
                ))}
              </span>
            </li>
          ))}
        </ul>
        {found.length === 0 && <p>{STRINGS.nothingFound}</p>}
      </div>
    </div>
  );
}

export const shut = (): void => store.setState({ asking: null });

function place(type: NodeType, { at, from }: Asking): void {
  const { catalogue, uses } = store.getState();
  let made: NodeId | undefined;
  act(STRINGS.actions.add, (document) => {
    const [after, id] = added(document, type, at);
    made = id;
    return from ? plugged(after, id, type, from) : after;
  });
  store.setState({ asking: null, selected: new Set(made ? [made] : []), uses: new Map(uses).set(type.id, (uses.get(type.id) ?? 0) + 1) });

  /** The new node with the link that somebody held. */
  function plugged(document: Document, id: NodeId, { outputs }: NodeType, plug: Plug): Document {
    if (plug.side === "input") {
      const link = [plug.node, Number(plug.socket)] as const;
      const input = bestInput(document, catalogue, link, id);
      return input ? connected(document, link, { node: id, input: input.name }) : document;
    }
    const exact = outputs.findIndex((output) => output.wire === plug.wire);
    const output = exact >= 0 ? exact : outputs.findIndex((row) => fits(row.wire, plug.wire));
    return output < 0 ? document : connected(document, [id, output], { node: nodeId(plug.node), input: plug.socket });
  }
}
