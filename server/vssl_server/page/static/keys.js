/** The keyboard: `g` and a letter goes to a view, `?` says which keys there are. */

import { html, useEffect, useRef } from "./vendor/preact.js";

const TO = { a: "ask", l: "look", m: "map", c: "curate", w: "watch" };
const WAIT = 1200; // milliseconds between the two strokes

const KEYS = [
  ["g then a, l, m, c, w", "go to Ask, Look, Map, Curate, Watch"],
  ["/", "to the filters of Look"],
  ["arrow keys, Home, End, Page Up, Page Down", "move among images"],
  ["Enter", "open an image; Escape closes it, ← and → go to the one before and after"],
  ["Ctrl+V", "in Ask: ask with the picture that was copied"],
  ["1 … 9, or letters", "in Curate: label what is chosen; Space chooses, Ctrl+Z undoes"],
  ["?", "these keys"],
];

/** Calls `onView` with the view that two strokes ask for. */
export function useKeys(onView) {
  const told = useRef(onView);
  told.current = onView;
  useEffect(() => {
    let since = 0;
    const pressed = (event) => {
      const typing = event.target.closest?.("input, textarea, select, [contenteditable], dialog, .labels");
      if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "?") document.getElementById("help").showModal();
      else if (event.key === "g") since = event.timeStamp;
      else if (TO[event.key] && event.timeStamp - since < WAIT) {
        since = 0;
        event.preventDefault();
        told.current(TO[event.key]);
      }
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}

/** The dialog that lists the keys. */
export function Help() {
  return html`<dialog id="help" aria-labelledby="help-title">
    <h2 id="help-title">Keys</h2>
    <dl class="facts">${KEYS.map(([keys, what]) => html`<dt><kbd>${keys}</kbd></dt><dd>${what}</dd>`)}</dl>
    <form method="dialog"><button>Close</button></form>
  </dialog>`;
}
