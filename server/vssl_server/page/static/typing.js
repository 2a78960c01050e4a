/** A field for a label, with those that there are while one types. */

import { suggestions } from "./undo.js";
import { html, useState } from "./vendor/preact.js";

/**
 * @param {{labels: string[], what: string, field: Object, onDone: function(string|null): void}} props `field`: the ref
 *   of the field; `onDone` has the label, null where one leaves it
 */
export function Typing({ labels, what, field, onDone }) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(-1);
  const found = !text.trim() ? [] : suggestions(labels, text);
  const done = (label) => {
    setText("");
    setAt(-1);
    onDone(label);
  };
  const onKey = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    event.stopPropagation();
    if (step) setAt(((at + 1 + step + found.length + 1) % (found.length + 1)) - 1); // -1 is the field itself
    else if (event.key === "Escape") done(null);
    else if (event.key === "Enter" && (at >= 0 || text.trim())) done(at >= 0 ? found[at] : text.trim());
    else return;
    event.preventDefault();
  };
  return html`<div class="typing">
    <label for="typed-label">${what}</label>
    <input id="typed-label" ref=${field} role="combobox" autocomplete="off" spellcheck=${false} aria-autocomplete="list"
      aria-expanded=${found.length > 0} aria-controls="typed-labels"
      aria-activedescendant=${at >= 0 ? `typed-${at}` : undefined} value=${text}
      onInput=${(event) => (setText(event.target.value), setAt(-1))} onKeyDown=${onKey} />
    <ul id="typed-labels" role="listbox" aria-label="Labels" hidden=${!found.length}>
      ${found.map(
        (label, place) => html`<li role="option" id=${`typed-${place}`} aria-selected=${place === at}
          onMouseDown=${(event) => (event.preventDefault(), done(label))}>${label}</li>`,
      )}
    </ul>
  </div>`;
}
