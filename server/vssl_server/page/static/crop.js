/** A box that is drawn on a picture, by mouse, finger or keyboard. */

import { html, useRef } from "./vendor/preact.js";

const STEP = 0.02;
const LEAST = 0.04;
const STEPS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
const FIRST = [0.2, 0.2, 0.8, 0.8];

/** A box [left, top, right, bottom] as shares of the picture, within it and not too small. */
export function bounded([left, top, right, bottom]) {
  const between = (value, low, high) => Math.min(high, Math.max(low, value));
  const width = between(right - left, LEAST, 1);
  const height = between(bottom - top, LEAST, 1);
  const [x, y] = [between(left, 0, 1 - width), between(top, 0, 1 - height)];
  return [x, y, x + width, y + height];
}

/** The box moved by a step; or sized, where only its far corner moves. */
function moved([left, top, right, bottom], [dx, dy], sizing) {
  const [x, y] = sizing ? [0, 0] : [dx, dy];
  return bounded([left + x, top + y, right + dx, bottom + dy]);
}

/** The same in whole pixels of a picture. */
export const inPixels = (box, width, height) =>
  box.map((share, at) => Math.round(share * (at % 2 ? height : width)));

/**
 * @param {{src: string, name: string, box: number[]|null, onBox: function(number[]|null): void,
 *   onDone: function(): void, onWhole: function(): void}} props `onDone`: the box is as it shall be; `onWhole`: there
 *   shall be none
 */
export function Crop({ src, name, box, onBox, onDone, onWhole }) {
  const frame = useRef(null);
  const from = useRef(null);
  const at = (event) => {
    const { left, top, width, height } = frame.current.getBoundingClientRect();
    return [(event.clientX - left) / width, (event.clientY - top) / height];
  };
  const onDown = (event) => {
    if (event.button || event.target.closest(".crop-box")) return;
    frame.current.setPointerCapture(event.pointerId);
    from.current = at(event);
  };
  const onMove = (event) => {
    if (!from.current) return;
    const [[x, y], [u, v]] = [from.current, at(event)];
    if (Math.abs(x - u) > LEAST && Math.abs(y - v) > LEAST) {
      const within = [Math.min(x, u), Math.min(y, v), Math.max(x, u), Math.max(y, v)];
      onBox(bounded(within.map((value) => Math.min(1, Math.max(0, value)))));
    }
  };
  const onUp = () => {
    if (from.current && box) onDone();
    from.current = null;
  };
  const onKey = (event) => {
    const step = STEPS[event.key];
    if (step) onBox(moved(box, step, event.shiftKey));
    else if (event.key === "Enter") onDone();
    else if (event.key === "Escape") onWhole();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const [left, top, right, bottom] = (box ?? FIRST).map((share) => 100 * share);
  const place = { left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%` };
  return html`<div class="crop">
    <div class="crop-frame" ref=${frame} onPointerDown=${onDown} onPointerMove=${onMove} onPointerUp=${onUp}
      onPointerCancel=${() => (from.current = null)}>
      <img src=${src} alt=${name} draggable=${false} />
      ${box && html`<div class="crop-box" style=${place} tabindex="0" role="group" onKeyDown=${onKey}
        aria-label="Part to ask about. Arrow keys move it, with shift they size it, Enter asks, Escape takes it away.">
      </div>`}
    </div>
    <div class="buttons">
      ${box
        ? html`<button type="button" onClick=${onDone}>Ask about the part</button>
            <button type="button" onClick=${onWhole}>Whole picture</button>`
        : html`<button type="button" onClick=${() => onBox(FIRST)}>Ask about a part</button>`}
    </div>
  </div>`;
}
