/** A grid of images to choose from and to label, by keyboard too. */

import { html, useLayoutEffect, useRef } from "./vendor/preact.js";

const KEYS =
  "Arrow keys move, space chooses, Control A chooses all, a digit or a typed label labels what is chosen, " +
  "Delete takes the label away, Control Z undoes, Enter opens.";

/**
 * @param {{gallery: string, rows: Object[], at: number, setAt: function(number): void, chosen: Set<string>,
 *   setChosen: function(Set<string>): void, going: {current: boolean}, note: function(Object): string,
 *   name: string, Thumbnail: function, acts: {label: function(string|null), digit: function(number), type: function(),
 *   undo: function(), open: function(string)}}} props `at`: the row in focus; `going`: whether the focus goes there
 *   with the next drawing; `note`: what is said of a row; `acts` are of what is chosen
 */
export function Picks({ gallery, rows, at, setAt, chosen, setChosen, going, note, name, acts, Thumbnail }) {
  const list = useRef(null);
  useLayoutEffect(() => {
    // With the drawing itself: an effect that comes later would meet the next key.
    if (going.current) list.current?.children[at]?.focus();
    going.current = false;
  });
  const toggle = (id) => setChosen(new Set(chosen.has(id) ? [...chosen].filter((one) => one !== id) : [...chosen, id]));
  const onKey = (event) => {
    const act = commandOf(event, columnsOf(list.current));
    if (!act) return;
    if (act[0] !== "type") event.preventDefault();
    event.stopPropagation();
    const row = rows[at];
    const commands = {
      move: (step) => list.current.children[Math.max(0, Math.min(rows.length - 1, at + step))].focus(),
      toggle: () => toggle(row.id),
      all: () => setChosen(new Set(rows.map((one) => one.id))),
      ...acts,
      open: () => acts.open(row.id),
    };
    commands[act[0]](act[1]);
  };
  return html`<div class="picks" role="listbox" aria-multiselectable="true" aria-label=${name}
      aria-describedby="picks-keys" ref=${list} onKeyDown=${onKey}>
      ${rows.map(
        (row, place) => html`<div class="pick" role="option" key=${row.id} tabindex=${place === at ? 0 : -1}
          aria-selected=${chosen.has(row.id)} aria-label=${`${row.id}, ${row.label ?? "no label"}, ${note(row)}`}
          onFocus=${() => setAt(place)} onClick=${() => toggle(row.id)} onDblClick=${() => acts.open(row.id)}>
          <${Thumbnail} gallery=${gallery} id=${row.id} alt="" />
          <span class="pick-label">${row.label ?? html`<span class="quiet">no label</span>`}</span>
          <span class="quiet">${note(row)}</span>
        </div>`,
      )}
    </div>
    <p id="picks-keys" class="quiet">${KEYS}</p>`;
}

/** What a key means: a command and what it takes; null where it means nothing here. */
function commandOf({ key, ctrlKey, metaKey, altKey }, across) {
  if (ctrlKey || metaKey) return { z: ["undo"], a: ["all"] }[key] ?? null;
  if (altKey) return null;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across, Home: -Infinity, End: Infinity };
  if (key in steps) return ["move", steps[key]];
  const named = { " ": ["toggle"], Enter: ["open"], Delete: ["label", null], Backspace: ["label", null] };
  if (key in named) return named[key];
  if (/^[1-9]$/.test(key)) return ["digit", Number(key)];
  return /^[\p{L}\p{N}]$/u.test(key) ? ["type"] : null;
}

/** How many stand beside each other. */
function columnsOf(list) {
  const tops = [...list.children].map((child) => child.offsetTop);
  const first = tops.findIndex((top) => top !== tops[0]);
  return first < 0 ? tops.length : first;
}
