import { describe, expect, test } from "vitest";

import { begun, goesOn, heard, IDLE, resumed, type Progress } from "../src/core/progress";
import type { Job, Told } from "../src/server";

const told = (event: string, more: Partial<Told> = {}): Told => ({ event, job: "1", client: "me", ...more });
const after = (...events: Told[]): Progress => events.reduce((part, one) => heard(part, one, (file) => `view/${file.filename}`), begun(IDLE, "1"));
const images = [{ filename: "a.png", subfolder: "", type: "output" }];

describe("a run", () => {
  test("is told node by node, and ends with what it showed", () => {
    const running = after(told("started"), told("node_started", { display: "s" }), told("progress", { display: "s", value: 3, max: 20 }));
    expect(running.nodes["s"]).toEqual({ state: "running", value: 3, max: 20 });
    expect(goesOn(running)).toBe(true);
    const done = heard(running, told("node_finished", { display: "s", status: "executed", seconds: 2, output: { images } }), (file) => file.filename);
    expect(done.nodes["s"]).toEqual({ state: "done", seconds: 2, pictures: ["a.png"] });
    expect(goesOn(heard(done, told("finished", { state: "done", seconds: 3 }), String))).toBe(false);
  });

  test("that fails says so at the node, and nothing runs any more", () => {
    const failed = after(told("node_started", { display: "s" }), told("finished", { state: "failed", error: { node: "s", message: "no memory" } }));
    expect(failed.nodes["s"]).toEqual({ state: "failed", message: "no memory" });
    expect(failed.message).toBe("no memory");
    expect(after(told("node_started", { display: "s" }), told("finished", { state: "interrupted" })).nodes).toEqual({});
  });

  test("keeps the pictures of the one before until there are new ones", () => {
    const first = after(told("node_finished", { display: "save", status: "executed", output: { images } }));
    const second = begun(first, "2");
    expect(second.nodes["save"]?.pictures).toEqual(["view/a.png"]);
    const running = heard(second, told("node_started", { display: "save" }), String);
    expect(running.nodes["save"]).toEqual({ state: "running", pictures: ["view/a.png"] });
  });

  test("shows no preview of a node that has ended", () => {
    expect(after(told("node_finished", { display: "s", status: "executed" }), told("preview", { display: "s", image: "data:" })).nodes["s"]?.preview).toBeUndefined();
  });

  test("that began before the page was loaded is taken up where it is", () => {
    const job: Job = { id: "9", state: "running", client: "me", seconds: null, error: null, progress: { node: "s", value: 4, max: 20 }, pictures: [{ node: "save", url: "/view?filename=a.png" }] };
    expect(resumed(job).nodes).toEqual({ save: { state: "done", pictures: ["view?filename=a.png"] }, s: { state: "running", value: 4, max: 20 } });
    expect(resumed({ ...job, state: "failed", error: { node: "s", message: "no" } }).nodes["s"]).toEqual({ state: "failed", message: "no" });
  });
});
