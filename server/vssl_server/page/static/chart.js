/** The map's canvas: what fingers, mouse, wheel and keys do to the camera, and which rows they mean. */

import { WHOLE, panned, toMap, toPixels, unit, zoomed } from "./camera.js";
import { Grid } from "./grid.js";
import { rowsInside, thinned } from "./lasso.js";
import { Plot } from "./plot.js";

const NEAR = 12;
const STILL = 4; // pixels that a click may tremble
const STEP = 60;
const FLIGHT = 180;
const SLOW = 50; // milliseconds a frame
const REST = 160;
const MOST_LEFT_OUT = 32;

export class Chart {
  camera = WHOLE;
  lassoing = false;
  #pointers = new Map();
  #outline = null;
  #pointed = -1;
  #began = [0, 0];
  #dragged = false;
  #frame = 0;
  #drawn = 0;
  #every = 1;
  #moving = false; // what is asked for, and whether the frame before was drawn so
  #moved = false;
  #rest = 0;
  #shown = null;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{onHover: function(number, number[]), onOpen: function(number), onLasso: function(Uint32Array),
   *   onOutline: function(number[])}} events `onHover` has the row (-1: none) and its place in pixels; `onOutline` the
   *   line that is drawn, in pixels
   */
  constructor(canvas, events) {
    this.canvas = canvas;
    this.events = events;
    this.plot = new Plot(canvas);
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.ending = new AbortController();
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(canvas);
    const on = (name, act, options = {}) =>
      canvas.addEventListener(name, act.bind(this), { signal: this.ending.signal, ...options });
    on("pointerdown", this.#down);
    on("pointermove", this.#move);
    on("pointerup", this.#up);
    on("pointercancel", this.#up);
    on("pointerleave", () => this.#hover(-1));
    on("wheel", this.#wheel, { passive: false });
    on("keydown", this.#key);
    on("webglcontextlost", (event) => event.preventDefault());
    on("webglcontextrestored", () => {
      this.plot.restore();
      this.#upload();
    });
  }

  /** Shows a map; the camera stays. */
  load(map, colours) {
    this.#hover(-1);
    this.map = map;
    this.grid = new Grid(map.x, map.y);
    this.colours = colours;
    this.#upload();
  }

  /** Shows other colours; `shown` is 0 for rows that can't be found by pointing, null for all. */
  paint(colours, shown = null) {
    this.colours = colours;
    this.#shown = shown;
    this.plot.colour(colours);
    this.redraw();
  }

  resize() {
    const ratio = Math.min(2, devicePixelRatio);
    const { clientWidth, clientHeight } = this.canvas;
    [this.canvas.width, this.canvas.height] = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
    this.redraw();
  }

  /** Draws before the next frame; where frames are slow, fewer points while things move, and all at rest. */
  redraw(moving = false) {
    clearTimeout(this.#rest);
    this.#moving = moving;
    if (moving) this.#rest = setTimeout(() => this.redraw(), REST);
    this.#frame ||= requestAnimationFrame((now) => {
      const took = now - this.#drawn;
      if (this.#moving && this.#moved) this.#every = pace(this.#every, took);
      [this.#frame, this.#drawn, this.#moved] = [0, now, this.#moving];
      if (this.map) this.plot.draw(this.camera, Math.min(2, devicePixelRatio), this.#moving ? this.#every : 1);
    });
  }

  /** The rows inside of what is seen: what the keyboard has for a lasso. */
  inView() {
    const [width, height] = this.#size;
    const [[left, top], [right, bottom]] = [this.#at(0, 0), this.#at(width, height)];
    return rowsInside([left, top, right, top, right, bottom, left, bottom], this.map.x, this.map.y);
  }

  /** Zooms about the middle, over a moment; at once where motion is to be reduced. */
  zoom(factor) {
    const [width, height] = this.#size;
    this.#fly(zoomed(this.camera, width, height, width / 2, height / 2, factor));
  }

  home() {
    this.#fly(WHOLE);
  }

  free() {
    this.ending.abort();
    this.observer.disconnect();
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#rest);
    this.map = null;
    this.plot.free();
  }

  get #size() {
    return [this.canvas.clientWidth, this.canvas.clientHeight];
  }

  #at(px, py) {
    return toMap(this.camera, ...this.#size, px, py);
  }

  #upload() {
    if (!this.map) return;
    this.plot.place(this.map.x, this.map.y);
    this.plot.colour(this.colours);
    this.redraw();
  }

  #nearest(px, py, pixels = NEAR) {
    if (!this.map) return -1;
    return this.grid.nearest(...this.#at(px, py), pixels / unit(this.camera, ...this.#size), this.#shown);
  }

  #hover(row) {
    this.#pointed = row;
    if (row < 0) this.events.onHover(-1, [0, 0]);
    else this.events.onHover(row, toPixels(this.camera, ...this.#size, this.map.x[row], this.map.y[row]));
  }

  #down(event) {
    if (event.button || !this.map) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.#began = [event.offsetX, event.offsetY];
    this.#dragged = this.#pointers.size > 1;
    const lasso = (this.lassoing || event.shiftKey) && this.#pointers.size === 1;
    this.#outline = lasso ? [event.offsetX, event.offsetY] : null;
  }

  #move(event) {
    const place = [event.offsetX, event.offsetY];
    const before = this.#pointers.get(event.pointerId);
    if (!before) return void this.#hover(this.#nearest(...place));
    const others = [...this.#pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    this.#pointers.set(event.pointerId, place);
    this.#dragged ||= Math.hypot(place[0] - this.#began[0], place[1] - this.#began[1]) > STILL;
    if (this.#outline) {
      this.#outline.push(...place);
      this.events.onOutline(this.#outline);
    } else if (others.length) {
      this.#pinch(others[0], before, place);
    } else {
      this.#see(panned(this.camera, ...this.#size, place[0] - before[0], place[1] - before[1]));
    }
  }

  #up(event) {
    if (!this.#pointers.delete(event.pointerId)) return;
    const outline = this.#outline;
    this.#outline = null;
    if (outline) {
      this.events.onOutline([]);
      if (event.type === "pointerup" && outline.length >= 6) this.#select(outline);
    } else if (!this.#dragged && event.type === "pointerup") {
      const row = this.#nearest(event.offsetX, event.offsetY);
      if (row >= 0) this.events.onOpen(row);
    }
  }

  #select(outline) {
    const corners = thinned(outline, 2);
    const places = [];
    for (let at = 0; at < corners.length; at += 2) places.push(...this.#at(corners[at], corners[at + 1]));
    this.events.onLasso(rowsInside(places, this.map.x, this.map.y));
  }

  #pinch(other, before, now) {
    const apart = (place) => Math.max(1, Math.hypot(place[0] - other[0], place[1] - other[1]));
    const middle = [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2];
    const moved = panned(this.camera, ...this.#size, (now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
    this.#see(zoomed(moved, ...this.#size, ...middle, apart(now) / apart(before)));
  }

  #wheel(event) {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : 1);
    this.#see(zoomed(this.camera, ...this.#size, event.offsetX, event.offsetY, Math.exp(-pixels / 400)));
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [width, height] = this.#size;
    const moves = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] };
    const acts = {
      "+": () => this.zoom(1.5),
      "=": () => this.zoom(1.5),
      "-": () => this.zoom(1 / 1.5),
      0: () => this.home(),
      Enter: () => {
        const row = this.#nearest(width / 2, height / 2, Math.hypot(width, height));
        if (row >= 0) this.events.onOpen(row);
      },
      v: () => this.events.onLasso(this.inView()),
    };
    const move = moves[event.key];
    const act = move ? () => this.#see(panned(this.camera, width, height, ...move)) : acts[event.key];
    if (!act || !this.map) return;
    event.preventDefault();
    event.stopPropagation();
    act();
    if (event.key !== "Enter") this.#hover(this.#nearest(width / 2, height / 2, 80));
  }

  #see(camera) {
    this.camera = camera;
    if (this.#pointed >= 0) this.#hover(this.#pointed); // the ring stays on its point
    this.redraw(true);
  }

  #fly(to) {
    if (this.still.matches) return void this.#see(to);
    const from = this.camera;
    const start = performance.now();
    const step = (now) => {
      if (this.ending.signal.aborted) return;
      const share = Math.min(1, (now - start) / FLIGHT);
      const mix = (a, b) => a + (b - a) * share * (2 - share);
      const zoom = Math.exp(mix(Math.log(from.zoom), Math.log(to.zoom)));
      this.#see({ x: mix(from.x, to.x), y: mix(from.y, to.y), zoom });
      if (share < 1) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }
}

/** Of how many points one is drawn, after a frame that took so long. */
function pace(every, took) {
  if (took > SLOW) return Math.min(MOST_LEFT_OUT, every * 2);
  return took < SLOW / 3 ? Math.max(1, every / 2) : every;
}
