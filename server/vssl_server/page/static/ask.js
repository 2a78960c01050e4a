/** The view Ask: an image, and what the gallery says of it. */

import { address, key, pathOf, send } from "./api.js";
import { Crop, inPixels } from "./crop.js";
import { Flags, Loading, Problem, Thumbnail, Trust } from "./parts.js";
import { hashOf } from "./place.js";
import { html, useEffect, useRef, useState } from "./vendor/preact.js";
import * as words from "./words.js";

const K = 12;
const MOST = 20;

/** An image's bytes as a data URI. */
function dataOf(file) {
  return new Promise((done, fail) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => fail(new Error(`${file.name} can't be read`));
    reader.readAsDataURL(file);
  });
}

/** Pixels of the upright picture. */
async function sizeOf(src) {
  const image = new Image();
  image.src = src;
  await image.decode();
  return [image.naturalWidth, image.naturalHeight];
}

/** The body of a question: an image, a part of it, or a row by its id. */
async function bodyOf({ id, file, src, box }) {
  if (id !== undefined) return { id };
  const image = await dataOf(file);
  return box ? { image, crop: inPixels(box, ...(await sizeOf(src))) } : { image };
}

async function answerOf(gallery, question) {
  const body = await bodyOf(question);
  const ask = (what, more) => send("POST", pathOf(gallery, `/${what}`), { ...body, ...more });
  const itself = body.id === undefined ? {} : { exclude_self: true };
  const found = await ask("search", { k: K, columns: ["label", "percentile"], ...itself });
  const said = await ask("classify", {});
  const { query: about, neighbours } = found.data[0];
  return { about, neighbours, said: said.data[0], timing: found.timing, request: requestOf(gallery, question, body.crop) };
}

/** The question for a shell: a whole file as it is, else JSON, in which the image's bytes are left out. */
function requestOf(gallery, { id, file }, crop) {
  const url = address(pathOf(gallery, "/classify"));
  if (file && !crop) return words.curl("POST", url, undefined, Boolean(key.get()), file);
  const body = file ? { image: `data:${file.type};base64,…`, crop } : { id };
  return words.curl("POST", url, body, Boolean(key.get()));
}

let last = 0;

/**
 * Questions and their answers; those of images are asked one after the other. Images stay in this page alone.
 *
 * @returns {{questions: Object[], add: function(File[]): void, change: function(number, Object): void,
 *   ask: function(Object): void}}
 */
function useQuestions(gallery, id) {
  const [questions, setQuestions] = useState([]);
  const all = useRef([]);
  const queue = useRef(Promise.resolve());
  const set = (now) => setQuestions((all.current = now));
  const change = (key, values) => set(all.current.map((one) => (one.key === key ? { ...one, ...values } : one)));
  const ask = (question) => {
    const own = { ...question, key: question.key ?? ++last, answer: null, problem: null };
    const known = all.current.some((one) => one.key === own.key);
    set(known ? all.current.map((one) => (one.key === own.key ? own : one)) : [own, ...all.current]);
    for (const one of all.current.slice(MOST)) release(one);
    set(all.current.slice(0, MOST));
    queue.current = queue.current.then(() =>
      answerOf(gallery, own).then(
        (answer) => change(own.key, { answer }),
        (problem) => change(own.key, { problem }),
      ),
    );
  };
  const add = (files) => {
    for (const file of files) ask({ file, name: file.name, src: URL.createObjectURL(file), box: null });
  };
  useEffect(() => {
    if (id) ask({ id, name: id });
  }, [gallery, id]);
  useEffect(() => () => (all.current.forEach(release), set([])), [gallery]);
  return { questions, add, change, ask };
}

const release = ({ src }) => src && URL.revokeObjectURL(src);

export function Ask({ info, place, onOpen }) {
  const { id } = place.query;
  const { questions, add, change, ask } = useQuestions(info.name, id);
  const input = useRef(null);
  const [over, setOver] = useState(false);
  // Whatever was given is asked, so that a file that is no image is told to be none.
  const take = (files) => files.length && add([...files]);
  useEffect(() => {
    const onPaste = (event) => info.served && event.clipboardData?.files.length && take(event.clipboardData.files);
    document.addEventListener("paste", onPaste);
    return () => document.removeEventListener("paste", onPaste);
  }, [info]);
  const onDrop = (event) => {
    event.preventDefault();
    setOver(false);
    if (info.served) take(event.dataTransfer.files);
  };
  return html`<div class=${over ? "ask over" : "ask"} onDragOver=${(event) => (event.preventDefault(), setOver(true))}
    onDragLeave=${(event) => event.currentTarget.contains(event.relatedTarget) || setOver(false)} onDrop=${onDrop}>
    <h1 class="hidden">Ask ${info.name}</h1>
    ${info.served
      ? html`<div class=${questions.length ? "drop small" : "drop"}>
          <p><strong>Drop an image</strong> here, paste one, or${" "}
            <button type="button" onClick=${() => input.current.click()}>choose images…</button></p>
          <p class="quiet">They are embedded on this server, and not kept.</p>
          <input type="file" ref=${input} accept="image/*" multiple hidden aria-label="Images"
            onChange=${(event) => (take(event.target.files), (event.target.value = ""))} />
        </div>`
      : html`<p class="drop small">No model of this gallery's encoder is served here, so images can't be asked. Open
          an image of the gallery to see what is like it.</p>`}
    ${questions.map(
      (question) => html`<${Question} key=${question.key} ...${{ info, question, ask, onOpen }}
        onBox=${(box) => change(question.key, { box })} />`,
    )}
  </div>`;
}

function Question({ info, question, ask, onOpen, onBox }) {
  const { id, name, src, box, answer, problem } = question;
  return html`<article class="question" aria-label=${name}>
    <div class="asked">
      ${src
        ? html`<${Crop} src=${src} name=${name} box=${box} onBox=${onBox}
            onDone=${() => ask(question)} onWhole=${() => ask({ ...question, box: null })} />`
        : html`<${Thumbnail} gallery=${info.name} id=${id} alt=${name} />`}
      <p class="asked-name">${name}</p>
      ${id !== undefined && html`<p class="quiet">The address of this page repeats the question.</p>`}
    </div>
    <div class="answer" aria-live="polite">
      ${problem && html`<${Problem} error=${problem} retry=${() => ask(question)} />`}
      ${!answer && !problem && html`<${Loading} what="an answer" />`}
      ${answer && html`<${Answer} ...${{ info, answer, onOpen }} />`}
    </div>
  </article>`;
}

function Answer({ info, answer: { about, neighbours, said, timing, request }, onOpen }) {
  const { title, lines } = words.answer(said);
  return html`<div class=${`verdict ${said.action ?? ""}`}>
      <h2>${title}</h2>${said.action && html`<span class="badge">${said.action}</span>`}
      ${said.p_correct !== null && html`<${Chance} p=${said.p_correct} interval=${said.interval} />`}
      ${lines.map((line) => html`<p>${line}</p>`)}
    </div>
    <${Trust} of=${about} /><${Flags} of=${about} />
    <h3>Nearest in ${info.name}</h3>
    ${!neighbours.length && html`<p class="quiet">The gallery is empty.</p>`}
    <ol class="neighbours">${neighbours.map(
      (row) => html`<li class="pick" key=${row.id}>
        <button type="button" class="plain" onClick=${() => onOpen(row.id)} aria-label=${`Open ${row.id}`}>
          <${Thumbnail} gallery=${info.name} id=${row.id} alt="" /></button>
        <span class="pick-label">${row.label ?? "no label"}</span>
        <span class="quiet">similarity ${words.similarity(row.similarity)}</span>
        <a href=${hashOf(info.name, "ask", { id: row.id })} aria-label=${`Ask about ${row.id}`}>Ask about it</a>
      </li>`,
    )}</ol>
    <p class="quiet">${timed(timing)}</p>
    <details><summary>The request</summary><pre tabindex="0">${request}</pre></details>`;
}

/** The chance to be right, from 0 to 1, and its interval, drawn; the sentences under it say the same. */
function Chance({ p, interval }) {
  const at = (share) => `${100 * share}%`;
  return html`<div class="chance" aria-hidden="true">
    ${interval && html`<i class="chance-range" style=${{ left: at(interval[0]), width: at(interval[1] - interval[0]) }}></i>`}
    <i class="chance-at" style=${{ left: at(p) }}></i>
  </div>`;
}

const PARTS = { decode_ms: "decoding", queue_ms: "queue", inference_ms: "inference", store_ms: "search" };

/** Where the time went. */
function timed(timing) {
  const known = Object.entries(PARTS).filter(([part]) => Number.isFinite(timing?.[part]));
  return known.map(([part, name]) => `${name} ${words.ms(timing[part])}`).join(" · ");
}
