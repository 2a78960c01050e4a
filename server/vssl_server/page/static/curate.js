/** The view Curate: duplicates, odd images, what to label next. */

import { Duplicates } from "./duplicates.js";
import { forget, Labels } from "./labels.js";
import { html } from "./vendor/preact.js";

const TABS = { duplicates: "Duplicates", next: "Label next", odd: "Odd ones", chosen: "Chosen on the map" };

/** The tabs of the view; `tab` is one of them, and `onTab` asks for another. */
export function Curate({ info, tab, onTab, picked, ...parts }) {
  const writable = info.scopes.includes("write");
  const names = Object.keys(TABS);
  const onKey = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = names[(names.indexOf(tab) + step + names.length) % names.length];
    onTab(next);
    event.currentTarget.querySelector(`#tab-${next}`).focus();
  };
  return html`<div class="curate">
    <div class="tabs" role="tablist" aria-label="Curate" onKeyDown=${onKey}>
      ${names.map(
        (name) => html`<button type="button" role="tab" id=${`tab-${name}`} aria-controls="curated"
          aria-selected=${name === tab} tabindex=${name === tab ? 0 : -1} onClick=${() => onTab(name)}>
          ${TABS[name]}</button>`,
      )}
    </div>
    <div role="tabpanel" id="curated" aria-labelledby=${`tab-${tab}`}>
      ${tab === "duplicates"
        ? html`<${Duplicates} ...${{ info, writable, ...parts }} onGone=${(ids) => forget(info.name, ids)} />`
        : html`<${Labels} source=${tab} ...${{ info, writable, picked, ...parts }} />`}
    </div>
  </div>`;
}
