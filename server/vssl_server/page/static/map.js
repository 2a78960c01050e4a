/** The view Map: all images of a gallery as points, near where they are alike. */

import { Chart } from "./chart.js";
import { paint, scaleOf } from "./colours.js";
import { colourable, useMap, useMapJob } from "./map_data.js";
import { Chosen, Legend, Making, Places } from "./map_parts.js";
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/preact.js";

const KEYS =
  "Arrow keys move, + and - zoom, 0 shows the whole map, Enter opens the image nearest to the middle, " +
  "v chooses all in view.";

/** Whether the page is dark now. */
function useDark() {
  const query = useMemo(() => matchMedia("(prefers-color-scheme: dark)"), []);
  const [dark, setDark] = useState(query.matches);
  useEffect(() => {
    const told = () => setDark(query.matches);
    query.addEventListener("change", told);
    return () => query.removeEventListener("change", told);
  }, [query]);
  return dark;
}

export function MapView({ info, onLook, onLabel, onOpen, Thumbnail, Problem, Loading }) {
  const { map, problem, need, reload } = useMap(info);
  const work = useMapJob(info, reload);
  const [name, setName] = useState(info.labelled ? "label" : "uncertainty");
  const [rows, setRows] = useState(null);
  const [drawn, setDrawn] = useState(true);
  const dark = useDark();
  const column = map?.columns.find((one) => one.name === name) ?? null;
  const scale = useMemo(() => scaleOf(column, dark, "#0072b2"), [column, dark]);
  useEffect(() => setRows(null), [map?.version, info.name]);
  if (problem && !map) return html`<${Problem} error=${problem} retry=${reload} />`;
  if (!map) return html`<${Loading} what="the map" />`;
  const choose = (found) => setRows(found.length ? found : null);
  const chooseEntry = (entry) => choose(rowsOf(column, entry.code));
  return html`<div class="map">
    ${drawn
      ? html`<${Canvas} ...${{ map, column, scale, rows, info, onOpen, Thumbnail, onChoose: choose }}
          onFail=${() => setDrawn(false)} />`
      : html`<${Places} map=${map} column=${column} />`}
    <aside class="map-side" aria-label="About the map">
      <label>Colour by
        <select value=${name} onChange=${(event) => (setName(event.target.value), need(event.target.value))}>
          ${colourable(info).map((one) => html`<option value=${one}>${one}</option>`)}
        </select>
      </label>
      ${column ? html`<${Legend} ...${{ name, scale }} onChoose=${chooseEntry} />` : html`<${Loading} what=${name} />`}
      ${problem && html`<${Problem} error=${problem} retry=${reload} />`}
      ${rows &&
      html`<${Chosen} ...${{ map, rows, onLook }} onLabel=${info.scopes.includes("write") ? onLabel : null}
        onClear=${() => setRows(null)} />`}
      <${Making} map=${map} work=${work} />
    </aside>
  </div>`;
}

function rowsOf(column, code) {
  const rows = new Uint32Array(column.data.length);
  let count = 0;
  for (let row = 0; row < rows.length; row++) if (column.data[row] === code) rows[count++] = row;
  return rows.slice(0, count);
}

function maskOf(map, rows) {
  const mask = new Uint8Array(map.rows);
  for (const row of rows) mask[row] = 1;
  return mask;
}

function Canvas({ map, column, scale, rows, info, onOpen, onChoose, onFail, Thumbnail }) {
  const canvas = useRef(null);
  const chart = useRef(null);
  const events = useRef({});
  const [outline, setOutline] = useState([]);
  const [hover, setHover] = useState({ row: -1, at: [0, 0] });
  const [lassoing, setLassoing] = useState(false);
  const mask = useMemo(() => rows && maskOf(map, rows), [map, rows]);
  const colours = useMemo(() => paint(map.rows, column, scale, mask), [map, column, scale, mask]);
  events.current = { onOpen: (row) => onOpen(map.idOf(row)), onLasso: onChoose };
  useLayoutEffect(() => {
    const act = (name) => (given) => events.current[name](given);
    try {
      chart.current = new Chart(canvas.current, {
        onHover: (row, at) => setHover((before) => (row < 0 && before.row < 0 ? before : { row, at })),
        onOutline: (line) => setOutline([...line]),
        onOpen: act("onOpen"),
        onLasso: act("onLasso"),
      });
    } catch {
      onFail();
    }
    return () => chart.current?.free();
  }, []);
  useLayoutEffect(() => chart.current?.load(map, colours), [map]);
  useLayoutEffect(() => chart.current?.paint(colours), [colours]);
  const lasso = () => setLassoing((chart.current.lassoing = !lassoing)); // at once: the next press may be the line
  const shown = hover.row >= 0 && hover.row < map.rows ? map.idOf(hover.row) : null;
  return html`<div class="map-stage">
    <canvas ref=${canvas} class=${lassoing ? "map-canvas lassoing" : "map-canvas"} tabindex="0" role="application"
      aria-label=${`Map of ${map.rows.toLocaleString("en")} images`} aria-describedby="map-keys"></canvas>
    <svg class="map-drawn" aria-hidden="true">
      ${outline.length > 0 && html`<polygon points=${outline.join(" ")} />`}
      ${shown && html`<circle cx=${hover.at[0]} cy=${hover.at[1]} r="8" />`}
    </svg>
    ${shown !== null &&
    html`<div class=${cardClass(canvas.current, hover.at)}
      style=${{ left: `${hover.at[0]}px`, top: `${hover.at[1]}px` }}>
      <${Thumbnail} key=${shown} gallery=${info.name} id=${shown} alt="" />
      <span class="map-card-id">${shown}</span>
      ${column && html`<span class="quiet">${inWords(column, hover.row)}</span>`}
    </div>`}
    <p class="hidden" role="status">${shown ?? ""}</p>
    <p id="map-keys" class="hidden">${KEYS}</p>
    <div class="map-tools" role="group" aria-label="The map">
      <button type="button" aria-label="Nearer" onClick=${() => chart.current.zoom(1.6)}>+</button>
      <button type="button" aria-label="Farther" onClick=${() => chart.current.zoom(1 / 1.6)}>−</button>
      <button type="button" onClick=${() => chart.current.home()}>Whole</button>
      <button type="button" aria-pressed=${lassoing} onClick=${lasso}>Lasso</button>
      <button type="button" onClick=${() => onChoose(chart.current.inView())}>All in view</button>
    </div>
  </div>`;
}

/** On the side of the point where there is room. */
function cardClass({ clientWidth, clientHeight }, [x, y]) {
  return `map-card ${x > clientWidth / 2 ? "leftwards" : ""} ${y > clientHeight / 2 ? "upwards" : ""}`;
}

function inWords(column, row) {
  const value = column.data[row];
  if (column.kind === "category") return `${column.name}: ${column.values[value] ?? "none"}`;
  return `${column.name}: ${Number.isNaN(value) ? "none" : value.toPrecision(3)}`;
}
