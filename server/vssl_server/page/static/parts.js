/** What all views show: pictures, flags, and the states in which there is nothing to show. */

import { key } from "./api.js";
import { sourceOf } from "./thumbnails.js";
import { html, useEffect, useState } from "./vendor/preact.js";
import * as words from "./words.js";

/** A picture of a gallery; where there is none, the end of its name stands in its place. */
export function Thumbnail({ gallery, id, alt = "" }) {
  const [source, setSource] = useState(null);
  const [missing, setMissing] = useState(false);
  useEffect(() => {
    let left = false;
    setMissing(false);
    const found = sourceOf(gallery, id);
    if (typeof found === "string") setSource(found);
    else found.then((one) => left || setSource(one), () => left || setMissing(true));
    return () => (left = true);
  }, [gallery, id]);
  if (missing) return html`<span class="no-picture" role="img" aria-label=${alt || "no picture"}>${id.slice(-18)}</span>`;
  return html`<img class="thumbnail" src=${source ?? undefined} alt=${alt} decoding="async" draggable=${false}
    onError=${() => setMissing(true)} />`;
}

/** The flags that are up, with the reason of each. */
export function Flags({ of }) {
  const up = words.flags(of);
  if (!up.length) return null;
  return html`<ul class="flags">${up.map(({ name, why }) => html`<li><strong>${name}</strong> ${why}</li>`)}</ul>`;
}

/** Names of the flags alone, for a small picture. */
export function Marks({ of }) {
  return words.flags(of).map(({ name, why }) => html`<span class="mark" title=${why}>${name}</span>`);
}

/** How far one may trust an image's embedding: a bar against the reference, and sentences. */
export function Trust({ of }) {
  const known = of.percentile !== null && of.percentile !== undefined;
  const more = [words.familiarity(of), words.confidence(of)].filter(Boolean);
  return html`<div class="trust">
    <p class="trust-words">${words.uncertainty(of)}</p>
    ${known && html`<div class="trust-bar" aria-hidden="true"><i style=${{ left: `${of.percentile}%` }}></i></div>`}
    ${more.map((line) => html`<p class="quiet">${line}</p>`)}
  </div>`;
}

/** Something is on its way. */
export function Loading({ what }) {
  return html`<p class="state loading" role="status">Loading ${what}…</p>`;
}

/** There is nothing, and why. */
export function Empty({ title, text, children }) {
  return html`<div class="state"><h2>${title}</h2><p>${text}</p>${children}</div>`;
}

const TITLES = {
  0: "Nobody answers",
  401: "A key is needed",
  403: "Not with this key",
  404: "Not here",
  421: "Not under this name",
  429: "Too busy",
  503: "The store is away",
  504: "That took too long",
};

/** What went wrong, in the server's words, and what one can do. */
export function Problem({ error, retry }) {
  const refused = error.status === 401 || error.status === 403;
  return html`<div class="state problem" role="alert">
    <h2>${TITLES[error.status] ?? "That went wrong"}</h2>
    <p>${error.message}</p>
    ${refused && html`<${KeyForm} />`}
    ${retry && !refused && html`<button type="button" onClick=${retry}>Try again</button>`}
  </div>`;
}

/** Asks for a key, and keeps it in this tab. */
export function KeyForm() {
  const keep = (event) => {
    event.preventDefault();
    key.set(event.target.elements.key.value.trim());
    dispatchEvent(new Event("vssl-key"));
  };
  return html`<form class="key-form" onSubmit=${keep}>
    <label>API key <input name="key" type="password" autocomplete="off" spellcheck=${false} required /></label>
    <button>Use it</button>
    <p class="quiet">It stays in this tab, and is gone when the tab is closed.</p>
  </form>`;
}
