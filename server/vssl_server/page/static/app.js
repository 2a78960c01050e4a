/** The page: which gallery, which view, and what surrounds them. */

import { Ask } from "./ask.js";
import { get, key, pathOf } from "./api.js";
import { Detail } from "./detail.js";
import { Help, useKeys } from "./keys.js";
import { Look } from "./look.js";
import { Empty, Loading, Problem, Thumbnail } from "./parts.js";
import { go, hashOf, usePlace } from "./place.js";
import { html, render, useCallback, useEffect, useState } from "./vendor/preact.js";
import { count } from "./words.js";

const VIEWS = { ask: "Ask", look: "Look", map: "Map", curate: "Curate", watch: "Watch" };
const LATER = {
  map: async () => (await import("./map.js")).MapView,
  curate: async () => (await import("./curate.js")).Curate,
  watch: async () => (await import("./watch.js")).Watch,
};

/** The galleries that may be seen, or why none can. */
function useGalleries() {
  const [found, setFound] = useState({ galleries: null, problem: null });
  const load = useCallback(() => {
    setFound({ galleries: null, problem: null });
    get("/v1/galleries").then(
      ({ data }) => setFound({ galleries: data, problem: null }),
      (problem) => setFound({ galleries: null, problem }),
    );
  }, []);
  useEffect(() => {
    load();
    // Another tab, or somebody else, may have written meanwhile. What is shown stays until the answer is there.
    const again = () => get("/v1/galleries").then(({ data }) => setFound({ galleries: data, problem: null }), () => {});
    addEventListener("vssl-key", load);
    addEventListener("focus", again);
    return () => (removeEventListener("vssl-key", load), removeEventListener("focus", again));
  }, []);
  return { ...found, load };
}

function App() {
  const { galleries, problem, load } = useGalleries();
  const place = usePlace();
  const [said, setSaid] = useState("");
  const [chosen, setChosen] = useState({ look: null, curate: [] });
  const say = useCallback((text) => {
    setSaid("");
    setTimeout(() => setSaid(text)); // said twice, it is heard twice
  }, []);
  const name = place.gallery;
  const info = galleries?.find((one) => one.name === name || one.aliases.includes(name)) ?? null;
  const view = VIEWS[place.view] ? place.view : "ask";
  useKeys((wanted) => name && VIEWS[wanted] && go(hashOf(name, wanted)));
  useEffect(() => {
    document.title = info ? `${info.name} · ${VIEWS[view]} · VSSL` : "VSSL";
    setChosen({ look: null, curate: [] });
  }, [info?.name]);
  useEffect(() => {
    document.title = info ? `${info.name} · ${VIEWS[view]} · VSSL` : "VSSL";
  }, [view]);
  useEffect(() => {
    if (galleries?.length === 1 && !name) go(hashOf(galleries[0].name, "ask"), true);
  }, [galleries, name]);
  const onOpen = (id) => go(hashOf(name, view, { ...place.query, open: id }));
  const shared = { info, place, chosen, say, onOpen };
  return html`
    <a class="skip" href="#main" onClick=${(event) => (event.preventDefault(), document.getElementById("main").focus())}>
      To the content</a>
    <${Header} ...${{ galleries, info, name, view }} />
    <main id="main" tabindex="-1">
      ${!info && (problem || !galleries || name || !galleries.length) && html`<h1 class="hidden">${name || "Galleries"}</h1>`}
      ${problem ? html`<${Problem} error=${explained(problem)} retry=${load} />`
      : !galleries ? html`<${Loading} what="galleries" />`
      : !name ? html`<${Home} galleries=${galleries} />`
      : !info ? html`<${Missing} name=${name} />`
      : html`<${View} key=${info.name + view} ...${{ view, setChosen, ...shared }} />`}
    </main>
    ${info && place.query.open !== undefined && html`<${Detail} key=${place.query.open} ...${shared} id=${place.query.open}
      onClose=${() => go(hashOf(name, view, { ...place.query, open: null }), true)} />`}
    <${Help} />
    <p class=${said ? "toast" : "toast hidden"} role="status">${said}</p>`;
}

function Header({ galleries, info, name, view }) {
  return html`<header class="top">
    <a class="brand" href="#/">VSSL</a>
    ${galleries?.length > 0 && html`<label class="pick-gallery"><span class="hidden">Gallery</span>
      <select value=${info?.name ?? ""} onChange=${(event) => go(hashOf(event.target.value, view))}>
        ${!info && html`<option value="">Choose a gallery</option>`}
        ${galleries.map((one) => html`<option value=${one.name}>${one.name}</option>`)}
      </select></label>`}
    ${info && html`<nav aria-label="Views">${Object.entries(VIEWS).map(
      ([one, title]) => html`<a href=${hashOf(name, one)} aria-current=${one === view ? "page" : undefined}>${title}</a>`,
    )}</nav>`}
    <span class="top-end">
      ${info && html`<span class="quiet model">${count(info.rows)} images · ${info.model} ${info.model_version}</span>`}
      ${key.get() && html`<button type="button" class="plain" onClick=${forgetKey}>Forget the key</button>`}
      <button type="button" class="plain" aria-label="Keys of the keyboard"
        onClick=${() => document.getElementById("help").showModal()}>?</button>
    </span>
  </header>`;
}

function forgetKey() {
  key.set("");
  location.reload(); // whatever it let us see goes with it
}

/** The view that is asked for; all but Ask and Look come when they are first wanted. */
function View({ view, setChosen, ...shared }) {
  const [later, setLater] = useState({ part: null, problem: null });
  const { info, place, chosen, say, onOpen } = shared;
  const load = () =>
    LATER[view]?.().then(
      (part) => setLater({ part, problem: null }),
      () => setLater({ part: null, problem: new Error("This part of the page can't be loaded: nobody answers.") }),
    );
  useEffect(() => void load(), []);
  const choose = (to, ids) => {
    setChosen((now) => ({ ...now, [to]: ids }));
    go(hashOf(info.name, to, to === "curate" ? { tab: "chosen" } : { chosen: 1 }));
  };
  if (view === "ask") return html`<${Ask} ...${shared} />`;
  if (view === "look") return html`<${Look} ...${shared} />`;
  if (later.problem) return html`<${Problem} error=${later.problem} retry=${load} />`;
  if (!later.part) return html`<${Loading} what=${VIEWS[view]} />`;
  const own = {
    map: { onLook: (ids) => choose("look", ids), onLabel: (ids) => choose("curate", ids) },
    curate: {
      tab: place.query.tab ?? "duplicates",
      onTab: (tab) => go(hashOf(info.name, view, { ...place.query, tab }), true),
      picked: chosen.curate,
      say,
    },
    watch: {},
  };
  return html`<h1 class="hidden">${VIEWS[view]}: ${info.name}</h1>
    <${later.part} ...${{ info, onOpen, Thumbnail, Problem, Loading, Empty, ...own[view] }} />`;
}

/** All galleries, each with a few of its pictures. */
function Home({ galleries }) {
  if (!galleries.length) {
    return html`<${Empty} title="No gallery yet"
      text="Make one and add a folder of images; then they can be looked at here.">
      <pre>vssl gallery create NAME${"\n"}vssl gallery add NAME FOLDER</pre></${Empty}>`;
  }
  return html`<h1>Galleries</h1><ul class="galleries">${galleries.map(
    (one) => html`<li key=${one.name}><a class="card" href=${hashOf(one.name, "ask")}>
      <${Sample} gallery=${one.name} /><h2>${one.name}</h2>
      <p>${count(one.rows)} images, ${count(one.labelled)} labelled</p>
      <p class="quiet">${one.model} ${one.model_version}${one.served ? "" : " (not served here)"} · ${CALIBRATION[one.calibration]}</p>
    </a></li>`,
  )}</ul>`;
}

const CALIBRATION = { fitted: "calibrated", uncalibrated: "not calibrated", stale: "calibration out of date" };

function Sample({ gallery }) {
  const [rows, setRows] = useState([]);
  useEffect(() => {
    get(pathOf(gallery, "/images", { limit: 4, columns: "id" })).then(({ data }) => setRows(data), () => {});
  }, [gallery]);
  return html`<div class="sample">${rows.map((row) => html`<${Thumbnail} key=${row.id} gallery=${gallery} id=${row.id} />`)}</div>`;
}

function Missing({ name }) {
  return html`<${Empty} title="No such gallery" text=${`There is no gallery ${name}, or your key may not see it.`}>
    <p><a href="#/">All galleries</a></p></${Empty}>`;
}

/** A server without galleries has no such path. */
function explained(problem) {
  if (problem.status !== 404) return problem;
  const message = "This server was started without galleries: name their place to vssl serve --galleries.";
  return Object.assign(new Error(message), { status: 404 });
}

render(html`<${App} />`, document.getElementById("app"));
