/** What stands beside the map: the legend, the job of a better map, what is chosen; and a table in the map's place. */

import { short } from "./charts.js";
import { count } from "./labelling.js";
import { toCsv } from "./undo.js";
import { html, useState } from "./vendor/preact.js";

const MOST_IDS = 10_000;
const ENTRIES = 12;
const ROWS = 50;

/** What the colours mean. A category is a button that chooses its rows. */
export function Legend({ name, scale, onChoose }) {
  if (scale.kind === "number") {
    if (!scale.range) return html`<p class="quiet">No image has a value of ${name}.</p>`;
    const ramp = { background: `linear-gradient(to right, ${scale.ramp.join(", ")})` };
    return html`<div class="ramp"><div class="ramp-bar" style=${ramp}></div>
      <div class="ramp-ends"><span>${short(scale.range[0])}</span><span>${short(scale.range[1])}</span></div></div>`;
  }
  const shown = scale.entries.slice(0, ENTRIES);
  const rest = scale.entries.slice(ENTRIES).reduce((sum, entry) => sum + entry.rows, 0);
  return html`<ul class="legend">
    ${shown.map(
      (entry) => html`<li><button type="button" class="legend-entry" onClick=${() => onChoose(entry)}>
        <span class="swatch" style=${{ background: entry.colour }}></span>
        <span class="legend-text">${entry.text ?? "none"}</span>
        <span class="quiet">${entry.rows.toLocaleString("en")}</span>
      </button></li>`,
    )}
    ${rest > 0 && html`<li class="quiet">${count(rest)} of ${scale.entries.length - ENTRIES} more</li>`}
  </ul>`;
}

/** How the map was made, and the job that makes it by neighbours. */
export function Making({ map, work }) {
  const { job, problem, running, start, stop } = work;
  const by = map.method === "pca" ? "the two main directions (PCA)" : "neighbours (t-SNE)";
  const old = map.stale ? ", of an earlier version" : "";
  const hint = map.method === "pca" ? "Far means different." : "Near means alike; far says little.";
  const missing = map.missing ? ` ${count(map.missing)} came later and can't be seen here.` : "";
  return html`<div class="making">
    <p class="quiet">Placed by ${by}${old}. ${hint}${missing}</p>
    ${running
      ? html`<label>Placing by neighbours…
            <progress value=${job.progress ?? undefined} max="1"></progress></label>
          <button type="button" onClick=${stop}>Stop</button>`
      : (map.method === "pca" || map.stale) &&
        html`<button type="button" onClick=${start}>Place by neighbours (t-SNE)</button>`}
    <p role="status" class="quiet">${said(job, problem)}</p>
  </div>`;
}

function said(job, problem) {
  if (problem) return problem.message;
  if (job === null) return "";
  if (job.state === "failed") return `The map could not be made: ${job.error.message}`;
  if (job.state === "queued") return "The map waits for other work.";
  if (job.state === "running") return job.progress ? `${Math.round(job.progress * 20) * 5} % done` : "";
  return job.state === "done" ? "The map by neighbours is here." : "Stopped.";
}

/** What can be done with the chosen rows. */
export function Chosen({ map, rows, onLook, onLabel, onClear }) {
  const many = rows.length > MOST_IDS;
  const ids = () => Array.from(rows, map.idOf);
  return html`<section class="chosen" aria-label="Chosen images">
    <p role="status">${count(rows.length)} chosen.
      ${many && ` A filter takes at most ${MOST_IDS.toLocaleString("en")}: choose fewer, or save them as a file.`}</p>
    <div class="buttons">
      <button type="button" disabled=${many} onClick=${() => onLook(ids())}>Look at them</button>
      ${onLabel && html`<button type="button" disabled=${many} onClick=${() => onLabel(ids())}>Label them</button>`}
      <button type="button" onClick=${() => saveRows(map, rows)}>Save as CSV</button>
      <button type="button" onClick=${onClear}>Choose none</button>
    </div>
  </section>`;
}

function saveRows(map, rows) {
  const values = (column) => (row) =>
    column.kind === "category"
      ? (column.values[column.data[row]] ?? null)
      : Number.isNaN(column.data[row]) ? null : column.data[row];
  const parts = [map.idOf, (row) => map.x[row], (row) => map.y[row], ...map.columns.map(values)];
  const lines = Array.from(rows, (row) => parts.map((part) => part(row)));
  save("chosen.csv", toCsv(["id", "x", "y", ...map.columns.map((column) => column.name)], lines));
}

/** Saves a text, or bytes, as a file, as if it were downloaded. */
export function save(name, content, type = "text/csv") {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** The map's rows in words, where a browser can't draw it. */
export function Places({ map, column }) {
  const [first, setFirst] = useState(0);
  const last = Math.min(map.rows, first + ROWS);
  const rows = Array.from({ length: last - first }, (_, at) => first + at);
  const value = (row) =>
    column.kind === "category" ? (column.values[column.data[row]] ?? "none") : short(column.data[row]);
  return html`<div class="places">
    <p>This browser can't draw the map (it has no WebGL2). Here are its places as a table.</p>
    <table>
      <thead><tr><th scope="col">image</th><th scope="col">across</th><th scope="col">up</th>
        ${column && html`<th scope="col">${column.name}</th>`}</tr></thead>
      <tbody>${rows.map(
        (row) => html`<tr><th scope="row">${map.idOf(row)}</th>
          <td>${short(map.x[row])}</td><td>${short(map.y[row])}</td>
          ${column && html`<td>${value(row)}</td>`}</tr>`,
      )}</tbody>
    </table>
    <div class="buttons">
      <button type="button" disabled=${first === 0} onClick=${() => setFirst(first - ROWS)}>Before</button>
      <span class="quiet">${first + 1}–${last} of ${map.rows.toLocaleString("en")}</span>
      <button type="button" disabled=${last === map.rows} onClick=${() => setFirst(last)}>Next</button>
    </div>
  </div>`;
}
