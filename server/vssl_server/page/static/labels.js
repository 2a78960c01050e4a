/** Images to label: odd ones, those that help most, or those chosen elsewhere; several at once, with undo. */

import { get, send } from "./api.js";
import { short } from "./charts.js";
import { count, Labelling } from "./labelling.js";
import { save } from "./map_parts.js";
import { Picks } from "./picks.js";
import { rowsOf } from "./rows.js";
import { Typing } from "./typing.js";
import { toCsv } from "./undo.js";
import { html, useEffect, useRef, useState } from "./vendor/preact.js";

const SHOWN = 200;
const READ_ONLY = "Your key may look at this gallery, but not change it: labels need the scope write.";
const uncertainty = (row) => `uncertainty ${short(row.uncertainty)}`;

/** Where images to label come from: their ids, and what is said of each. */
const SOURCES = {
  next: {
    name: "What to label next",
    about: "Far from all that is labelled, the uncertain ones first: a label here says the most about the others.",
    nothing: "Every image has a label.",
    find: async (gallery) => ({ ids: (await get(`/v1/galleries/${gallery}/pick?n=60`)).data, note: uncertainty }),
  },
  odd: {
    name: "Odd images",
    about: "Far from everything else here: of another kind, broken, or the only one of its kind.",
    nothing: "No image is far from the others.",
    find: async (gallery) => {
      const { data } = await get(`/v1/galleries/${gallery}/outliers?limit=100`);
      const apart = new Map(data.map((one) => [one.id, one.distance]));
      return { ids: data.map((one) => one.id), note: (row) => `distance ${short(apart.get(row.id))}` };
    },
  },
  chosen: {
    name: "Chosen images",
    about: "What was chosen on the map.",
    nothing: "Nothing is chosen. Draw a line around images on the map.",
    find: async (gallery, ids) => ({ ids, note: uncertainty }),
  },
};

const labellings = new Map();

/** What was labelled in a gallery since the page was opened, and the labels that there are; it outlives the view. */
async function labellingOf({ name }) {
  if (!labellings.has(name)) {
    const { data } = await get(`/v1/galleries/${name}/counts?by=label`);
    const labels = data.map((one) => one.value).filter((label) => label !== null);
    const write = (ids, label) => send("PATCH", `/v1/galleries/${name}/images`, { ids, label });
    const read = (ids) => rowsOf(name, ids);
    labellings.set(name, Object.assign(new Labelling(write, read, labels), { labels }));
  }
  return labellings.get(name);
}

/** Images that are gone have no changed labels. */
export const forget = (name, ids) => ids.forEach((id) => labellings.get(name)?.changes.forget(id));

export function Labels({ info, source, picked, writable, onOpen, say, Thumbnail, Problem, Loading, Empty }) {
  const { about, nothing, find, name } = SOURCES[source];
  const [state, setState] = useState(null);
  const [problem, setProblem] = useState(null);
  const [chosen, setChosen] = useState(new Set());
  const [at, setAt] = useState(0);
  const field = useRef(null);
  const place = useRef(null);
  const going = useRef(false);
  const load = () => {
    let left = false;
    setState(null);
    setProblem(null);
    setChosen(new Set());
    setAt(0);
    Promise.all([labellingOf(info), find(info.name, picked)])
      .then(async ([labelling, { ids, note }]) => {
        const rows = await rowsOf(info.name, ids.slice(0, SHOWN));
        if (!left) setState({ labelling, note, rows, all: ids.length });
      })
      .catch((error) => left || setProblem(error));
    return () => (left = true);
  };
  useEffect(load, [info.name, source, picked]);
  if (problem) return html`<${Problem} error=${problem} retry=${load} />`;
  if (!state) return html`<${Loading} what="images" />`;
  const { labelling, rows, note, all } = state;
  if (!rows.length) return html`<${Empty} title=${name} text=${nothing} />`;
  const act = async (what) => {
    try {
      say(await what());
    } catch (error) {
      say(error.message);
    }
    const now = await rowsOf(info.name, rows.map((row) => row.id)).catch(() => rows);
    setState((before) => before && { ...before, rows: now });
  };
  const label = (text) => {
    if (!writable) return say(READ_ONLY);
    const targets = chosen.size ? rows.filter((row) => chosen.has(row.id)) : rows.slice(at, at + 1);
    if (text !== null && !labelling.labels.includes(text)) labelling.labels.unshift(text);
    going.current = !place.current.querySelector(".digits").contains(document.activeElement); // a button keeps its focus
    if (!chosen.size) setAt(Math.min(rows.length - 1, at + 1));
    setChosen(new Set());
    return act(() => labelling.set(new Map(targets.map((row) => [row.id, row.label])), text));
  };
  const acts = {
    label,
    digit: (number) => number <= labelling.digits.length && label(labelling.digits[number - 1]),
    type: () => field.current?.focus(), // the letter itself goes on into the field
    undo: () => act(async () => `Undone: ${(await labelling.undo.undo()) ?? "nothing to undo"}`),
    open: onOpen,
  };
  const typed = (text) => {
    if (text === null) return place.current?.querySelector('.pick[tabindex="0"]')?.focus();
    return label(text);
  };
  const what = chosen.size ? count(chosen.size) : rows[at].id;
  return html`<div class="labels" ref=${place}>
    <p class="quiet">${about}${all > rows.length ? ` The first ${rows.length} of ${count(all)}.` : ""}</p>
    ${writable ? html`<${Bar} ...${{ info, labelling, field, typed, acts, what }} />` : html`<p>${READ_ONLY}</p>`}
    <${Picks} gallery=${info.name} ...${{ rows, at, setAt, chosen, setChosen, going, note, name, acts, Thumbnail }} />
  </div>`;
}

/** What a digit and a typed label would do; what can be undone; what was changed, as a file. */
function Bar({ info, labelling, field, typed, acts, what }) {
  const { undo, changes, digits, labels } = labelling;
  const file = `${info.name}-labels`;
  const saving = `Save ${changes.size || "no"} changed label${changes.size === 1 ? "" : "s"}`;
  const saveParquet = async () => {
    const { toParquet } = await import("./parquet.js");
    save(`${file}.parquet`, toParquet(...changes.table()), "application/vnd.apache.parquet");
  };
  return html`<div class="bar">
    <${Typing} labels=${labels} field=${field} what=${`Label ${what}`} onDone=${typed} />
    <div class="digits" role="group" aria-label=${`Label ${what}`}>
      ${digits.map(
        (label, at) => html`<button type="button" onClick=${() => acts.digit(at + 1)}>
          <kbd>${at + 1}</kbd> ${label}</button>`,
      )}
    </div>
    <div class="buttons">
      <button type="button" disabled=${!undo.size} onClick=${acts.undo}>Undo${undo.next ? ` ${undo.next}` : ""}</button>
      <button type="button" disabled=${!changes.size} onClick=${() => save(`${file}.csv`, toCsv(...changes.table()))}>
        ${saving} as CSV</button>
      <button type="button" disabled=${!changes.size} aria-label=${`${saving} as Parquet`} onClick=${saveParquet}>
        as Parquet</button>
    </div>
  </div>`;
}
