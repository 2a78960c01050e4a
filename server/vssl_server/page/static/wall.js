/** A wall of pictures that is as long as the list: only what is in view is in the document. */

import { Marks, Thumbnail } from "./parts.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/preact.js";

const WIDTH = 172; // of a picture with its margin, at least, in CSS pixels
const CAPTION = 46;
const SPARE = 2; // rows above and below the view
const HIGHEST = 15e6; // CSS pixels that every browser can scroll

/**
 * Scrolling through what is higher than a browser can scroll: short ways are as long as they look, far ones are in
 * proportion. Where all can be scrolled, both are the same.
 *
 * @param {number} whole height of the list
 * @param {number} view height of what is seen of it
 * @returns {{height: number, ratio: number, move: function(number, number, number): number}} the element's height; how
 *   much farther the list goes than the element; the list's place when the element has scrolled from one to another
 */
export function scaled(whole, view) {
  const height = Math.min(whole, HIGHEST);
  const [all, end] = [Math.max(0, whole - view), Math.max(0, height - view)];
  const ratio = end ? all / end : 1;
  const move = (top, from, to) => {
    if (to <= 0) return 0;
    if (to >= end) return all;
    const far = Math.abs(to - from) > view;
    return Math.max(0, Math.min(all, far || ratio === 1 ? to * ratio : top + to - from));
  };
  return { height, ratio, move };
}

/** `list` is a `Pages`; `what` says of what, so that another one begins at its top; `caption(row)` is under a picture. */
export function Wall({ gallery, list, what, label, caption, onOpen }) {
  const place = useRef(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  const [top, setTop] = useState(0); // of the view in the list
  const scrolled = useRef(0); // of the element
  const [at, setAt] = useState(0);
  const focus = useRef(false);
  useLayoutEffect(() => {
    const measure = () => setSize({ width: place.current.clientWidth, height: place.current.clientHeight });
    const watching = new ResizeObserver(measure);
    watching.observe(place.current);
    measure();
    return () => watching.disconnect();
  }, []);
  useEffect(() => {
    place.current.scrollTop = 0;
    scrolled.current = 0;
    setTop(0);
    setAt(0);
  }, [what]);
  const columns = Math.max(2, Math.floor(size.width / WIDTH));
  const tall = Math.floor(size.width / columns) + CAPTION;
  const lines = Math.ceil(list.length / columns);
  const { height, ratio, move: moved } = scaled(lines * tall, size.height);
  const show = (line) => {
    place.current.scrollTop = line / ratio;
    scrolled.current = place.current.scrollTop;
    setTop(ratio === 1 ? scrolled.current : line);
  };
  const onScroll = (event) => {
    const from = scrolled.current;
    const to = (scrolled.current = event.target.scrollTop);
    if (to !== from) setTop((now) => moved(now, from, to));
  };
  const first = Math.max(0, Math.floor(top / tall) - SPARE);
  const last = Math.min(lines, Math.ceil((top + size.height) / tall) + SPARE);
  useEffect(() => list.need(first * columns, last * columns), [list, first, last, columns]);
  useLayoutEffect(() => {
    if (!focus.current) return;
    const line = Math.floor(at / columns) * tall;
    if (line < top) show(line);
    else if (line + tall > top + size.height) show(line + tall - size.height);
  }, [at]);
  useLayoutEffect(() => {
    // It may be a while before the picture to go to is there. With the drawing itself: a later effect would take the
    // next key's focus for its own.
    const tile = focus.current ? place.current.querySelector(`[data-at="${at}"]`) : null;
    if (tile) {
      focus.current = false;
      tile.focus({ preventScroll: true });
    }
  });
  const focused = place.current?.contains(document.activeElement) && document.activeElement.dataset.at !== undefined;
  useLayoutEffect(() => {
    // Where the columns become more or fewer, tiles change lines and are made anew: the focus goes with them.
    if (focused && !place.current.contains(document.activeElement)) {
      place.current.querySelector(`[data-at="${at}"]`)?.focus({ preventScroll: true });
    }
  });
  const page = Math.max(1, Math.floor(size.height / tall)) * columns;
  const steps = {
    ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, PageDown: page, PageUp: -page,
    Home: -Infinity, End: Infinity,
  };
  const move = (event) => {
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    focus.current = true;
    setAt(Math.max(0, Math.min(list.length - 1, at + steps[event.key])));
  };
  const shown = Array.from({ length: Math.max(0, last - first) }, (_, line) => first + line);
  const active = Math.floor(at / columns) >= first && Math.floor(at / columns) < last ? at : first * columns;
  return html`<div class="wall" ref=${place} onScroll=${onScroll} onKeyDown=${move}>
    <div role="grid" aria-label=${label} aria-rowcount=${lines} aria-colcount=${columns}
      style=${{ height: `${height}px`, position: "relative" }}>
      ${shown.map((line) => html`<div role="row" key=${line} aria-rowindex=${line + 1} class="wall-line"
        style=${{ top: `${line * tall - top + scrolled.current}px`, height: `${tall}px`, gridTemplateColumns: `repeat(${columns}, 1fr)` }}>
        ${Array.from({ length: Math.min(columns, list.length - line * columns) }, (_, column) => {
          const place = line * columns + column;
          return html`<${Tile} key=${list.row(place)?.id ?? place} row=${list.row(place)}
            ...${{ place, gallery, caption, onOpen, tabindex: place === active ? 0 : -1, onFocus: () => setAt(place) }} />`;
        })}
      </div>`)}
    </div>
  </div>`;
}

function Tile({ row, place, gallery, caption, onOpen, tabindex, onFocus }) {
  if (!row) return html`<div role="gridcell" class="tile waiting"></div>`;
  const text = caption(row);
  return html`<div role="gridcell" class="tile">
    <button type="button" class="tile-button" data-at=${place} tabindex=${tabindex} onFocus=${onFocus}
      onClick=${() => onOpen(row.id)} title=${row.id} aria-label=${[text, row.id].filter(Boolean).join(", ")}>
      <${Thumbnail} gallery=${gallery} id=${row.id} />
      <span class="tile-text"><span class=${row.label ? "" : "quiet"}>${text}</span><${Marks} of=${row} /></span>
    </button>
  </div>`;
}
