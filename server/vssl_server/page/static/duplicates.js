/** Groups of images that show the same thing, side by side: one is kept, the others can be deleted. */

import { get, send } from "./api.js";
import { short } from "./charts.js";
import { count } from "./labelling.js";
import { rowsOf } from "./rows.js";
import { html, useEffect, useRef, useState } from "./vendor/preact.js";

const PAGE = 20;
const NEAR = 0.98;
const MOST_IDS = 10_000;

export function Duplicates({ info, writable, onOpen, onGone, Thumbnail, Problem, Loading, Empty }) {
  const [search, setSearch] = useState({ threshold: NEAR });
  const [least, setLeast] = useState(NEAR); // what is typed stays, whatever comes meanwhile
  const [state, setState] = useState(null);
  const [problem, setProblem] = useState(null);
  const [asked, setAsked] = useState(null);
  const ending = useRef(null);
  const { threshold } = search;
  const load = async (before) => {
    ending.current?.abort();
    ending.current = new AbortController();
    const { signal } = ending.current;
    setProblem(null);
    try {
      const after = before?.next ? `&after=${encodeURIComponent(before.next)}` : "";
      const path = `/v1/galleries/${info.name}/duplicates?threshold=${threshold}&limit=${PAGE}${after}`;
      const { data, next } = await get(path, { signal });
      const rows = await rowsOf(info.name, data.flatMap((group) => [group.kept, ...group.others]), { signal });
      const known = new Map(rows.map((row) => [row.id, row]));
      const groups = data.map((group) => groupOf(group, known)).filter((group) => group.rows.length > 1);
      setState({ groups: [...(before?.groups ?? []), ...groups], next });
    } catch (error) {
      if (!signal.aborted) setProblem(error);
    }
  };
  useEffect(() => {
    setState(null);
    load(null);
    return () => ending.current?.abort();
  }, [info.name, search]);
  const find = (event) => {
    event.preventDefault();
    setState(null); // what was found before can't be deleted any more while the answer is on its way
    setSearch({ threshold: Number(least) });
  };
  const gone = (ids) => {
    const left = new Set(ids);
    const rest = (group) => ({ ...group, rows: group.rows.filter((row) => !left.has(row.id)) });
    setState((now) => ({ ...now, groups: now.groups.map(rest).filter((group) => group.rows.length > 1) }));
    setAsked(null);
    onGone(ids);
  };
  const keep = (at, id) =>
    setState({ ...state, groups: state.groups.map((group, place) => (place === at ? { ...group, kept: id } : group)) });
  return html`<div class="duplicates">
    <form class="bar" onSubmit=${find}>
      <label>Alike from <input type="number" min="0.5" max="1" step="0.001" value=${least}
        onInput=${(event) => setLeast(event.target.value)} /></label>
      <button>Find</button>
      ${writable && state?.groups.length > 0 &&
      html`<button type="button" class="danger" onClick=${() => setAsked(state.groups.flatMap(othersOf))}>
        Delete the others of every group here…</button>`}
    </form>
    ${problem && html`<${Problem} error=${problem} retry=${() => load(state)} />`}
    ${!state && !problem && html`<${Loading} what="duplicates" />`}
    ${state && !state.groups.length &&
    html`<${Empty} title="No duplicates" text=${`No two images have a similarity of ${threshold} or more.`} />`}
    ${state?.groups.map(
      (group, at) => html`<${Group} key=${group.rows[0].id} ...${{ info, group, writable, onOpen, Thumbnail }}
        onKeep=${(id) => keep(at, id)} onDelete=${() => setAsked(othersOf(group))} />`,
    )}
    ${state?.next && html`<button type="button" onClick=${() => load(state)}>More groups</button>`}
    ${asked && html`<${Deleting} info=${info} ids=${asked} onDone=${gone} onLeave=${() => setAsked(null)} />`}
  </div>`;
}

function groupOf({ kept, others, similarity }, known) {
  const rows = [kept, ...others].filter((id) => known.has(id)).map((id) => known.get(id));
  return { kept, best: kept, lowest: similarity, rows };
}

const othersOf = (group) => group.rows.map((row) => row.id).filter((id) => id !== group.kept);

function Group({ info, group, writable, onKeep, onDelete, onOpen, Thumbnail }) {
  const size = (row) => (row.width && row.height ? `${row.width} × ${row.height}` : "size not known");
  return html`<section class="group" aria-label=${`${group.rows.length} images alike, such as ${group.kept}`}>
    <div class="group-images">
      ${group.rows.map(
        (row) => html`<div class=${row.id === group.kept ? "pick kept" : "pick"} key=${row.id}>
          <button type="button" class="plain" onClick=${() => onOpen(row.id)} aria-label=${`Open ${row.id}`}>
            <${Thumbnail} gallery=${info.name} id=${row.id} alt="" /></button>
          <span class="pick-id">${row.id}</span>
          <span class="quiet">${size(row)}, uncertainty ${short(row.uncertainty)}</span>
          ${writable && html`<label><input type="radio" name=${`kept-${group.best}`} checked=${row.id === group.kept}
            onChange=${() => onKeep(row.id)} /> keep${row.id === group.best ? " (proposed)" : ""}</label>`}
        </div>`,
      )}
    </div>
    <p class="quiet">Alike from ${short(group.lowest)}. Proposed: most pixels, then least uncertainty.</p>
    ${writable && html`<button type="button" class="danger" onClick=${onDelete}>
      Delete the other${group.rows.length > 2 ? ` ${group.rows.length - 1}` : ""}…</button>`}
  </section>`;
}

/** Says what would be deleted, by a dry run; then deletes it. */
function Deleting({ info, ids, onDone, onLeave }) {
  const dialog = useRef(null);
  const [rows, setRows] = useState(null);
  const [problem, setProblem] = useState(null);
  const remove = async (dry) => {
    let gone = 0;
    for (let at = 0; at < ids.length; at += MOST_IDS) {
      const part = { ids: ids.slice(at, at + MOST_IDS), dry_run: dry };
      gone += (await send("POST", `/v1/galleries/${info.name}/delete`, part)).rows;
    }
    return gone;
  };
  useEffect(() => {
    dialog.current.showModal();
    remove(true).then(setRows, setProblem);
  }, []);
  const go = () => {
    setRows(null);
    remove(false).then(() => onDone(ids), setProblem);
  };
  return html`<dialog ref=${dialog} aria-labelledby="deleting" onClose=${onLeave}>
    <h2 id="deleting">Delete from ${info.name}?</h2>
    <p role="status">${problem?.message ?? (rows === null ? "One moment…" : `${count(rows)} will be deleted.`)}</p>
    <p>Thumbnails and labels go with them. This can't be undone.</p>
    <div class="buttons">
      <button type="button" class="danger" disabled=${!rows} onClick=${go}>Delete ${rows ? count(rows) : ""}</button>
      <button type="button" onClick=${() => dialog.current.close()}>Keep all</button>
    </div>
  </dialog>`;
}
