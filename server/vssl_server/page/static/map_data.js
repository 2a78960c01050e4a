/** Loads a gallery's map, and follows the job that makes a better one. */

import { bytes, get, send } from "./api.js";
import { readMap } from "./points.js";
import { useCallback, useEffect, useRef, useState } from "./vendor/preact.js";

const FIRST = ["label", "uncertainty", "novelty", "familiarity"];
const EVERY = 1000;
const OVER = ["done", "failed", "cancelled"];

/** The names of columns that points can be coloured by. */
export const colourable = (info) => [...FIRST, ...Object.keys(info.fields)];

/**
 * The map with the columns of every gallery; `need(name)` loads another one's values.
 *
 * @returns {{map: Object|null, problem: Error|null, need: function(string): void, reload: function(): void}}
 */
export function useMap(info) {
  const [state, setState] = useState({ map: null, problem: null });
  const columns = useRef(FIRST);
  const ending = useRef(null);
  const reload = useCallback(async () => {
    ending.current?.abort();
    ending.current = new AbortController();
    const { signal } = ending.current;
    try {
      const path = `/v1/galleries/${info.name}/map?method=auto&columns=${columns.current.join(",")}`;
      const map = readMap(await bytes(path, { signal }));
      setState({ map, problem: null });
    } catch (problem) {
      if (!signal.aborted) setState((before) => ({ ...before, problem }));
    }
  }, [info.name]);
  useEffect(() => {
    columns.current = FIRST;
    setState({ map: null, problem: null });
    reload();
    return () => ending.current?.abort();
  }, [reload]);
  const need = (name) => {
    if (!name || columns.current.includes(name)) return;
    columns.current = [...columns.current, name];
    reload();
  };
  return { ...state, need, reload };
}

/**
 * The job that makes the map by t-SNE: one that runs already is found again.
 *
 * @param {function(): void} done is called when a map is there
 * @returns {{job: Object|null, problem: Error|null, start: function(): void, stop: function(): void}}
 */
export function useMapJob(info, done) {
  const [state, setState] = useState({ job: null, problem: null });
  const told = useRef(done);
  told.current = done;
  useEffect(() => {
    setState({ job: null, problem: null });
    let left = false;
    get("/v1/jobs")
      .then(({ data }) => {
        const found = data.find((job) => job.kind === "map" && job.gallery === info.name && !OVER.includes(job.state));
        if (found && !left) setState({ job: found, problem: null });
      })
      .catch(() => {}); // without the list, a running job is only not shown
    return () => (left = true);
  }, [info.name]);
  const { job } = state;
  const running = job !== null && !OVER.includes(job.state);
  useEffect(() => {
    if (!running) return undefined;
    const timer = setTimeout(async () => {
      try {
        const now = await get(`/v1/jobs/${job.id}`);
        setState({ job: now, problem: null });
        if (now.state === "done") told.current();
      } catch (problem) {
        setState({ job: null, problem });
      }
    }, EVERY);
    return () => clearTimeout(timer);
  }, [job]);
  const act = (method, path) =>
    send(method, path).then(
      (answer) => setState({ job: answer.job ?? answer, problem: null }),
      (problem) => setState({ job: null, problem }),
    );
  return {
    ...state,
    running,
    start: () => act("POST", `/v1/galleries/${info.name}/map`),
    stop: () => act("DELETE", `/v1/jobs/${job.id}`),
  };
}
