/** The view Watch: whether the images have drifted, and how the server does. */

import { get } from "./api.js";
import { Bars, Lines, short } from "./charts.js";
import { drift, inWords, TAIL } from "./drift.js";
import { count } from "./labelling.js";
import * as polling from "./polling.js";
import { html, useEffect, useState } from "./vendor/preact.js";

const AGAIN = 30_000;
const HOUR = 3600_000;
const FLAGS = {
  degraded: "more uncertain than 95 % of the reference",
  ood: "out of distribution: as uncertain as the top 1 %, or in as odd a pattern",
  unfamiliar: "unlike the reference images",
};

/** What a gallery says of all its rows, and of those added in the last hour. */
async function gather(name, signal) {
  const since = { added_at: { $gte: new Date(Date.now() - HOUR).toISOString() } };
  const ask = (path, filter) => {
    const where = filter ? `filter=${encodeURIComponent(JSON.stringify(filter))}` : "";
    return get(`/v1/galleries/${name}/${path}${where}`, { signal });
  };
  const rows = async (...filters) => (await ask("counts?", filters.length > 1 ? { $and: filters } : filters[0])).rows;
  const part = async (own) => ({
    percentile: await ask("histogram?column=percentile&bins=20&", own[0]),
    uncertainty: await ask("histogram?column=uncertainty&bins=40&", own[0]),
    rows: await rows(...own),
    known: await rows(...own, { percentile: { $exists: true } }),
    over: await rows(...own, { percentile: { $gt: TAIL } }),
    flags: Object.fromEntries(
      await Promise.all(Object.keys(FLAGS).map(async (flag) => [flag, await rows(...own, { [flag]: true })])),
    ),
  });
  return { all: await part([]), hour: await part([since]) };
}

export function Watch({ info, Problem, Loading }) {
  const [found, setFound] = useState(null);
  const [problem, setProblem] = useState(null);
  const [, told] = useState(0);
  useEffect(() => polling.follow(() => told((turns) => turns + 1)), []);
  useEffect(() => {
    const ending = new AbortController();
    let timer = 0;
    setFound(null);
    const again = async () => {
      try {
        setFound(await gather(info.name, ending.signal));
        setProblem(null);
      } catch (error) {
        if (!ending.signal.aborted) setProblem(error);
      }
      if (!ending.signal.aborted) timer = setTimeout(again, AGAIN);
    };
    again();
    return () => {
      ending.abort();
      clearTimeout(timer);
    };
  }, [info.name]);
  return html`<div class="watch">
    ${problem && html`<${Problem} error=${problem} />`}
    ${!found && !problem && html`<${Loading} what="what the images say" />`}
    ${found && html`<${Uncertainty} name=${info.name} ...${found} /><${Flags} ...${found} />`}
    <${Server} />
  </div>`;
}

function Uncertainty({ name, all, hour }) {
  const calibrated = all.known > 0;
  const { edges, rows } = calibrated ? all.percentile : all.uncertainty;
  const expected = calibrated ? edges.slice(1).map((edge, bin) => (edge - edges[bin]) / 100) : null;
  const recent = calibrated && hour.known > 0;
  return html`<section class="card"><h2>Uncertainty of ${name}</h2>
    ${!calibrated && html`<p>The model has no calibration, so there is no reference to compare with. This is how
      uncertain the images are, as the model puts it.</p>`}
    ${calibrated && html`<p role="status"><strong>All images.</strong> ${inWords(drift(all.known, all.over))}</p>
      <p role="status"><strong>Added in the last hour.</strong>${" "}
        ${recent ? inWords(drift(hour.known, hour.over)) : "None."}</p>`}
    ${rows.length > 0 && html`<${Bars} ...${{ edges, rows, expected }}
      label=${calibrated ? "Images by percentile of uncertainty among the reference" : "Images by uncertainty"} />`}
    ${calibrated && html`<p class="quiet">Bars: how many per cent of the reference are at most as uncertain, from 0 to
      100. The dashed line: images like those that the model was calibrated on.</p>`}
  </section>`;
}

function Flags({ all, hour }) {
  const share = (part, flag) => (part.known ? `${short((100 * part.flags[flag]) / part.known)} %` : "–");
  return html`<section class="card"><h2>Flags</h2>
    <table><thead><tr><th scope="col">flag</th><th scope="col">all</th><th scope="col">last hour</th></tr></thead>
      <tbody>${Object.entries(FLAGS).map(
        ([flag, words]) => html`<tr><th scope="row">${flag} <span class="quiet">${words}</span></th>
          <td>${share(all, flag)}</td><td>${share(hour, flag)}</td></tr>`,
      )}</tbody></table>
    <p class="quiet">Of ${count(all.known)}, ${hour.known.toLocaleString("en")} of them added in the last hour.</p>
  </section>`;
}

function Server() {
  const steps = polling.hour.steps();
  const whole = polling.hour.whole;
  const now = steps.at(-1);
  if (!now) {
    const words = polling.problem ?? "Reading…";
    return html`<section class="card wide"><h2>The server</h2><p role="status">${words}</p></section>`;
  }
  const minutes = Math.max(1, Math.round((now.at - polling.hour.readings[0].at) / 60_000));
  const seconds = ["median", "slow"].map((name) => steps.map((step) => step[name]));
  const tiles = [
    ["Requests a second", [steps.map((step) => step.rate)], short(now.rate)],
    ["Milliseconds a request: half under, 99 % under", seconds,
      `${short(1000 * now.median)}, ${short(1000 * now.slow)}`],
    ["Images in the queue", [steps.map((step) => step.queue)], short(now.queue)],
    ["Refused a second", [steps.map((step) => step.refused)], short(now.refused)],
  ];
  const causes = Object.entries({ ...whole.refusals }).filter(([, times]) => times > 0);
  return html`<section class="card wide"><h2>The server</h2>
    <p class="quiet">Since this view was opened, at most an hour: ${minutes} minute${minutes === 1 ? "" : "s"}.</p>
    ${polling.problem && html`<p role="status">${polling.problem}</p>`}
    <div class="tiles">${tiles.map(
      ([name, series, value]) => html`<div class="tile"><h3>${name}</h3><strong>${value}</strong>
        <${Lines} series=${series} label=${`${name}: now ${value}`} /></div>`,
    )}</div>
    <${Embedded} ...${whole} />
    ${causes.length > 0 && html`<table>
      <thead><tr><th scope="col">refused because</th><th scope="col">times</th></tr></thead>
      <tbody>${causes.map(
        ([cause, times]) => html`<tr><th scope="row">${cause}</th><td>${times}</td></tr>`,
      )}</tbody></table>`}
  </section>`;
}

/** What the server embedded while we looked, of all models, in the buckets of its own metrics. */
function Embedded({ images, uncertainty }) {
  const embedded = images.embedded ?? 0;
  if (!embedded) return html`<p class="quiet">No image was embedded meanwhile.</p>`;
  const [bounds, rows] = [uncertainty.bounds.slice(0, -1), uncertainty.counts.slice(1, -1)];
  return html`<h3>${count(embedded)} embedded meanwhile, by uncertainty</h3>
    <${Bars} edges=${bounds} rows=${rows} label=${`${count(embedded)} by uncertainty`} />`;
}
