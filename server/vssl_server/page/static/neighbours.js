/** The nearest images of a gallery, with how near they are. */

import { Thumbnail } from "./parts.js";
import { html } from "./vendor/preact.js";
import { similarity } from "./words.js";

export function Neighbours({ gallery, near, onOpen }) {
  if (!near.length) return html`<p class="quiet">There is none.</p>`;
  return html`<ol class="neighbours">${near.map((one) => html`<li key=${one.id}>
    <button type="button" class="tile-button" title=${one.id} onClick=${() => onOpen(one.id)}
      aria-label=${`${one.label ?? "no label"}, similarity ${similarity(one.similarity)}, ${one.id}`}>
      <${Thumbnail} gallery=${gallery} id=${one.id} />
      <span class="tile-text"><span class=${one.label ? "" : "quiet"}>${one.label ?? "no label"}</span>
        <span class="quiet number">${similarity(one.similarity)}</span></span>
    </button></li>`)}</ol>`;
}
