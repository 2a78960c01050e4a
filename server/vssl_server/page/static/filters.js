/** Filters of Look, from the fields that the gallery declares, with how many images each value has. */

import { get, pathOf } from "./api.js";
import { html, useEffect, useState } from "./vendor/preact.js";
import { count } from "./words.js";

const MOST = 40; // values of one field
const FLAGS = { degraded: "boolean", ood: "boolean", unfamiliar: "boolean" };
const NUMBERS = { uncertainty: "number", percentile: "number", novelty: "number", added_at: "time" };
const NAMES = { ood: "out of distribution", added_at: "added" };

/** Every column that can be filtered by, with its type. */
export const filterable = (info) => ({ label: "text", ...FLAGS, ...info.fields, ...NUMBERS });

/** The values of one field that a filter lets through; `null` stands for rows without one. */
export function chosenOf(condition) {
  if (condition === undefined) return [];
  if (condition === null || typeof condition !== "object") return [condition];
  if (condition.$exists === false) return [null];
  return condition.$in ?? [];
}

/** The filter with other values of one field; without any, the field is free. */
export function withValues(filter, field, values) {
  const { [field]: _, ...rest } = filter;
  if (!values.length) return rest;
  return { ...rest, [field]: values.includes(null) ? { $exists: false } : values.length > 1 ? { $in: values } : values[0] };
}

export function Filters({ info, filter, onFilter }) {
  const fields = Object.entries(filterable(info));
  return html`<aside class="filters" id="filters" tabindex="-1" aria-label="Filters">
    <div class="filters-top"><h2>Filters</h2>
      ${Object.keys(filter).length > 0 && html`<button type="button" class="plain" onClick=${() => onFilter({})}>Clear</button>`}
    </div>
    ${fields.map(([field, type]) => {
      const Kind = ["text", "boolean"].includes(type) ? Values : Range;
      return html`<details key=${field} open=${field === "label" || field in filter}>
        <summary>${NAMES[field] ?? field}${field in filter ? html` <strong>·</strong>` : ""}</summary>
        <${Kind} ...${{ info, field, type, filter, onFilter }} />
      </details>`;
    })}
  </aside>`;
}

/** A box for each value, the commonest first. Counts are those under all other filters. */
function Values({ info, field, filter, onFilter }) {
  const [found, setFound] = useState(null);
  const [word, setWord] = useState("");
  const chosen = chosenOf(filter[field]);
  const others = withValues(filter, field, []);
  const under = JSON.stringify(others);
  useEffect(() => {
    const ending = new AbortController();
    const query = { by: field, filter: Object.keys(others).length ? others : null };
    get(pathOf(info.name, "/counts", query), ending).then(({ data }) => setFound(data), () => setFound([]));
    return () => ending.abort();
  }, [info.name, info.version, field, under]);
  if (!found) return html`<p class="quiet">Counting…</p>`;
  if (!found.length) return html`<p class="quiet">None.</p>`;
  const fitting = found.filter(({ value }) => String(value ?? "none").toLowerCase().includes(word.toLowerCase()));
  const toggle = (value) => {
    const rest = chosen.filter((one) => one !== value && one !== null);
    onFilter(withValues(filter, field, chosen.includes(value) ? rest : value === null ? [null] : [...rest, value]));
  };
  return html`
    ${found.length > 12 && html`<input type="search" placeholder="find a value" aria-label=${`Find a value of ${field}`}
      value=${word} onInput=${(event) => setWord(event.target.value)} />`}
    <ul class="values">${fitting.slice(0, MOST).map(({ value, rows }) => html`<li key=${String(value)}><label>
      <input type="checkbox" checked=${chosen.includes(value)} onChange=${() => toggle(value)} />
      <span class=${value === null ? "value quiet" : "value"}>${value === null ? "none" : String(value)}</span>
      <span class="quiet">${count(rows)}</span></label></li>`)}</ul>
    ${fitting.length > MOST && html`<p class="quiet">and ${count(fitting.length - MOST)} more</p>`}`;
}

/** From one value to another. */
function Range({ field, type, filter, onFilter }) {
  const given = filter[field] ?? {};
  const [kind, step] = type === "time" ? ["date", undefined] : ["number", type === "integer" ? 1 : "any"];
  const [typed, setTyped] = useState({}); // and not yet asked for: it stays, whatever comes meanwhile
  const shown = (value) => (value === undefined ? "" : type === "time" ? value.slice(0, 10) : value);
  const typing = (operator) => (event) => setTyped({ ...typed, [operator]: event.target.value });
  const set = (operator) => (event) => {
    const text = event.target.value;
    setTyped({});
    const { [operator]: _, ...rest } = given;
    const end = operator === "$gte" ? "T00:00:00Z" : "T23:59:59Z";
    const own = text === "" ? rest : { ...rest, [operator]: type === "time" ? text + end : Number(text) };
    const { [field]: __, ...others } = filter;
    onFilter(Object.keys(own).length ? { ...others, [field]: own } : others);
  };
  return html`<div class="range">
    <label>from <input type=${kind} step=${step} value=${typed.$gte ?? shown(given.$gte)}
      onInput=${typing("$gte")} onChange=${set("$gte")} /></label>
    <label>to <input type=${kind} step=${step} value=${typed.$lte ?? shown(given.$lte)}
      onInput=${typing("$lte")} onChange=${set("$lte")} /></label>
  </div>`;
}
