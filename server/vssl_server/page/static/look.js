/** The view Look: all images of a gallery, sorted and filtered. */

import { get, pathOf, send } from "./api.js";
import { order } from "./detail.js";
import { Filters } from "./filters.js";
import { Pages, SIZE } from "./pages.js";
import { Empty, Problem } from "./parts.js";
import { go, hashOf } from "./place.js";
import { html, useEffect, useMemo, useState } from "./vendor/preact.js";
import { Wall } from "./wall.js";
import { count, shown, similarity } from "./words.js";

const COLUMNS = "id,label,uncertainty,percentile,novelty,flags,added_at";
const SORTS = {
  added: { title: "newest", sort: "added_at", order: "desc", of: (row) => row.added_at?.slice(0, 10) },
  uncertain: { title: "most uncertain", sort: "uncertainty", order: "desc", of: (row) => shown(row.uncertainty) },
  certain: { title: "most certain", sort: "uncertainty", order: "asc", of: (row) => shown(row.uncertainty) },
  novel: { title: "oddest", sort: "novelty", order: "desc", of: (row) => shown(row.novelty) },
  id: { title: "by name", sort: "id", order: "asc", of: (row) => row.id },
};
const NEAREST = 1000;

/** Pages of a list that is there at once. */
const sliced = (all) => (from) => ({ data: all.slice(from, from + SIZE), next: from + SIZE < all.length ? "more" : null });

/** What to show: the images like one, those chosen on the map, or all by a sort. */
function fetcher(info, { like, chosen, sort, filter }) {
  const own = Object.keys(filter).length ? filter : null;
  if (like !== undefined) {
    const found = send("POST", pathOf(info.name, "/search"), {
      id: like, k: NEAREST, columns: ["label", "uncertainty", "percentile", "flags"], ...(own && { filter: own }),
    }).then(({ data }) => sliced(data[0].neighbours));
    found.catch(() => {}); // the list itself reports it
    return async (offset) => (await found)(offset);
  }
  if (chosen) {
    const pages = sliced(chosen);
    const loaded = import("./rows.js");
    return async (offset, signal) => {
      const { data, next } = pages(offset);
      return { data: await (await loaded).rowsOf(info.name, data, { signal }), next };
    };
  }
  const by = SORTS[sort];
  return (offset, signal) =>
    get(pathOf(info.name, "/images", { offset, limit: SIZE, filter: own, columns: COLUMNS, sort: by.sort, order: by.order }), {
      signal,
    });
}

/** The list, and how often it has changed. */
function useList(info, what) {
  const [, changed] = useState(0);
  const list = useMemo(
    () => new Pages(fetcher(info, what), () => changed((times) => times + 1)),
    [info.name, info.version, what.like, what.chosen, what.sort, JSON.stringify(what.filter)],
  );
  useEffect(() => {
    order.step = (id, step) => {
      for (const [at, row] of list.inMemory()) if (row.id === id) return list.row(at + step)?.id ?? null;
      return null;
    };
    return () => {
      order.step = () => null;
      list.end();
    };
  }, [list]);
  return list;
}

/** How many images a filter leaves. */
function useTotal(info, filter, known) {
  const [total, setTotal] = useState(null);
  useEffect(() => {
    if (known) return undefined;
    const ending = new AbortController();
    setTotal(null);
    if (!Object.keys(filter).length) setTotal(info.rows);
    else get(pathOf(info.name, "/counts", { filter }), ending).then(({ rows }) => setTotal(rows), () => {});
    return () => ending.abort();
  }, [info.name, info.rows, JSON.stringify(filter), known]);
  return total;
}

export function Look({ info, place, chosen: picked, onOpen }) {
  const { query } = place;
  const filter = useMemo(() => parsed(query.filter), [query.filter]);
  const sort = SORTS[query.sort] ? query.sort : "added";
  const chosen = query.chosen ? picked.look : null;
  const what = { like: query.like, chosen, sort, filter };
  const list = useList(info, what);
  const special = query.like !== undefined || chosen !== null;
  const total = useTotal(info, filter, special);
  useEffect(() => {
    if (total !== null && !special) list.expect(total);
  }, [list, total, special]);
  const to = (change) => go(hashOf(place.gallery, "look", { ...query, open: null, ...change }), true);
  const onFilter = (next) => to({ filter: Object.keys(next).length ? JSON.stringify(next) : null });
  useEffect(() => {
    const toFilters = (event) => {
      if (event.key !== "/" || event.target.closest("input, select, textarea, dialog")) return;
      event.preventDefault();
      document.getElementById("filters").focus();
    };
    addEventListener("keydown", toFilters);
    return () => removeEventListener("keydown", toFilters);
  }, []);
  const caption = (row) => row.label ?? (query.like !== undefined ? similarity(row.similarity) : SORTS[sort].of(row));
  return html`<div class="look">
    <h1 class="hidden">Look: ${info.name}</h1>
    <${Filters} ...${{ info, filter, onFilter }} />
    <section class="look-wall" aria-label="Images">
      <${Bar} ...${{ list, total, special, sort, to, like: query.like, chosen }} />
      ${list.problem ? html`<${Problem} error=${list.problem} retry=${() => list.retry()} />`
      : list.whole && list.length === 0 ? html`<${Nothing} ...${{ info, filter, onFilter }} />`
      : html`<${Wall} key="wall" ...${{ gallery: info.name, list, caption, onOpen }} what=${JSON.stringify(what)} label=${`Images of ${info.name}`} />`}
    </section>
  </div>`;
}

function Bar({ list, total, special, sort, to, like, chosen }) {
  const known = special ? (list.whole ? list.length : null) : total;
  return html`<div class="look-bar">
    <p role="status">${known === null ? "Counting…" : `${count(known)} image${known === 1 ? "" : "s"}`}</p>
    ${like !== undefined && html`<span class="chip">most like <b>${like}</b>
      <button type="button" class="plain" aria-label="All images again" onClick=${() => to({ like: null })}>×</button></span>`}
    ${chosen && html`<span class="chip">chosen on the map
      <button type="button" class="plain" aria-label="All images again" onClick=${() => to({ chosen: null })}>×</button></span>`}
    ${!special && html`<label>Sort <select value=${sort} onChange=${(event) => to({ sort: event.target.value })}>
      ${Object.entries(SORTS).map(([name, { title }]) => html`<option value=${name}>${title}</option>`)}
    </select></label>`}
  </div>`;
}

function Nothing({ info, filter, onFilter }) {
  if (!Object.keys(filter).length) {
    return html`<${Empty} title="Nothing here yet" text="This gallery has no images that you may see.">
      <pre>vssl gallery add ${info.name} FOLDER</pre></${Empty}>`;
  }
  return html`<${Empty} title="No image is like that" text="The filters leave none.">
    <button type="button" onClick=${() => onFilter({})}>Clear the filters</button></${Empty}>`;
}

/** The filter of an address; nothing where somebody has typed something else. */
function parsed(text) {
  try {
    const filter = JSON.parse(text ?? "{}");
    return filter && typeof filter === "object" && !Array.isArray(filter) ? filter : {};
  } catch {
    return {};
  }
}
