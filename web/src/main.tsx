/** The browser canvas: mounts the page and begins. */

import "@xyflow/react/dist/base.css";
import "./style.css";

import { createRoot } from "react-dom/client";

import { begin } from "./store";
import { App } from "./view/App";
import { Fault } from "./view/Fault";

createRoot(document.getElementById("root")!).render(
  <Fault>
    <App />
  </Fault>,
);
void begin();
