/** One image: the picture, how far to trust it, all its fields, its neighbours, and the request behind them. */

import { address, get, key, pathOf, send } from "./api.js";
import { Neighbours } from "./neighbours.js";
import { Flags, Loading, Problem, Thumbnail, Trust } from "./parts.js";
import { go, hashOf } from "./place.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/preact.js";
import { curl, shown } from "./words.js";

/** The image before (−1) or after (1) another in the list that is on screen; null where there is none. */
export const order = { step: () => null };

const PLAIN = ["id", "path", "label", "novelty", "width", "height", "size", "sha256", "precision", "added_at"];

export function Detail({ info, id, place, onOpen, onClose }) {
  const dialog = useRef(null);
  const [row, setRow] = useState(null);
  const [near, setNear] = useState(null);
  const [problem, setProblem] = useState(null);
  const query = { id, k: 12, columns: ["label"], exclude_self: true };
  const load = () => {
    const ending = new AbortController();
    setProblem(null);
    const failed = (error) => ending.signal.aborted || setProblem(error);
    get(pathOf(info.name, "/row", { id }), ending).then(setRow, failed);
    send("POST", pathOf(info.name, "/search"), query, ending).then(({ data }) => setNear(data[0].neighbours), failed);
    return () => ending.abort();
  };
  useEffect(load, [info.name, id]);
  useLayoutEffect(() => {
    if (!dialog.current.open) dialog.current.showModal();
  }, []);
  const step = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const next = by && !event.target.closest("input, pre") ? order.step(id, by) : null;
    if (next !== null) onOpen(next);
  };
  const to = (view, parameters) => (event) => (event.preventDefault(), go(hashOf(place.gallery, view, parameters)));
  const link = (view, parameters) => ({ href: hashOf(place.gallery, view, parameters), onClick: to(view, parameters) });
  return html`<dialog class="detail" ref=${dialog} aria-labelledby="detail-title" onClose=${onClose} onKeyDown=${step}
    onClick=${(event) => event.target === dialog.current && dialog.current.close()}>
    <div class="detail-inside">
      <header><h2 id="detail-title">${id}</h2>
        <button type="button" aria-label="Close" onClick=${() => dialog.current.close()}>×</button></header>
      ${problem && html`<${Problem} error=${problem} retry=${load} />`}
      ${!row && !problem && html`<${Loading} what="the image" />`}
      ${row && html`<div class="detail-top">
        <div class="detail-picture"><${Thumbnail} gallery=${info.name} id=${id} alt=${row.label ?? id} />
          <p class="buttons"><a class="button" ...${link("ask", { id })}>Ask with it</a>
            <a class="button" ...${link("look", { like: id })}>Most like it</a></p></div>
        <div><${Flags} of=${row} /><${Trust} of=${row} /><${Facts} row=${row} /></div>
      </div>`}
      ${near && html`<h3>Nearest</h3><${Neighbours} gallery=${info.name} ...${{ near, onOpen }} />`}
      <details><summary>The request</summary>
        <pre tabindex="0">${curl("POST", address(pathOf(info.name, "/search")), query, Boolean(key.get()))}</pre></details>
    </div>
  </dialog>`;
}

/** Every column and field, as text: nothing of it is ever markup. */
function Facts({ row }) {
  const facts = [
    ...PLAIN.filter((name) => row[name] !== undefined).map((name) => [name, row[name]]),
    ...Object.entries(row.fields ?? {}),
    ...(row.meta && Object.keys(row.meta).length ? [["meta", row.meta]] : []),
  ];
  return html`<dl class="facts">${facts.map(([name, value]) => html`<dt>${name}</dt><dd>${shown(value)}</dd>`)}</dl>`;
}
