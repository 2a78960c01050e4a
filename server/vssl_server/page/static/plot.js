/** Draws up to a million points with WebGL2, all in one call. */

import { unit } from "./camera.js";

const VERTEX = `#version 300 es
in float x;
in float y;
in vec4 colour;
uniform vec2 centre;
uniform vec2 scale;
uniform float size;
out vec4 paint;
void main() {
  gl_Position = vec4((vec2(x, y) - centre) * scale, 0.0, 1.0);
  gl_PointSize = size;
  paint = colour;
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 paint;
uniform bool round;
out vec4 result;
void main() {
  if (round && length(gl_PointCoord - 0.5) > 0.5) discard;
  result = vec4(paint.rgb * paint.a, paint.a);
}`;

const PARTS = { x: [1, "FLOAT", false], y: [1, "FLOAT", false], colour: [4, "UNSIGNED_BYTE", true] };

export class Plot {
  #gl;
  #program;
  #buffers = {};
  #rows = 0;
  #every = 1;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.#gl = canvas.getContext("webgl2", { antialias: false, premultipliedAlpha: true });
    if (!this.#gl) throw new Error("no WebGL2");
    this.restore();
  }

  /** Builds everything that a lost context took along; places and colours must be given again. */
  restore() {
    const gl = this.#gl;
    this.#program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(this.#program, shader);
    }
    gl.linkProgram(this.#program);
    gl.useProgram(this.#program);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    for (const name of Object.keys(PARTS)) this.#buffers[name] = gl.createBuffer();
    this.#point(1);
  }

  /** Where the points are, x and y in -1 … 1. */
  place(x, y) {
    this.#rows = x.length;
    this.#fill("x", x);
    this.#fill("y", y);
  }

  /** Their colours: four bytes each. */
  colour(bytes) {
    this.#fill("colour", bytes);
  }

  /**
   * Draws what the camera sees.
   *
   * @param {number} ratio of the screen's pixels to those of CSS
   * @param {number} every draw one point of so many, at most 63: what a slow machine shows while things move
   */
  draw(camera, ratio, every = 1) {
    const gl = this.#gl;
    if (every !== this.#every) this.#point(every);
    const { width, height } = this.canvas;
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    const at = (name) => gl.getUniformLocation(this.#program, name);
    const size = unit(camera, width, height);
    const point = ratio * pointSize(this.#rows, camera.zoom);
    gl.uniform2f(at("centre"), camera.x, camera.y);
    gl.uniform2f(at("scale"), (2 * size) / width, (2 * size) / height);
    gl.uniform1f(at("size"), point);
    gl.uniform1i(at("round"), point > 2.5 ? 1 : 0);
    gl.drawArrays(gl.POINTS, 0, Math.ceil(this.#rows / every));
  }

  /** Waits until all is drawn: what a benchmark measures. */
  finish() {
    this.#gl.readPixels(0, 0, 1, 1, this.#gl.RGBA, this.#gl.UNSIGNED_BYTE, new Uint8Array(4));
  }

  /** Gives the memory back. */
  free() {
    for (const buffer of Object.values(this.#buffers)) this.#gl.deleteBuffer(buffer);
    this.#gl.deleteProgram(this.#program);
    this.#gl.getExtension("WEBGL_lose_context")?.loseContext();
  }

  #fill(name, values) {
    this.#gl.bindBuffer(this.#gl.ARRAY_BUFFER, this.#buffers[name]);
    this.#gl.bufferData(this.#gl.ARRAY_BUFFER, values, this.#gl.STATIC_DRAW);
  }

  /** Lets the shader read one row of `every`; each has four bytes in each buffer. */
  #point(every) {
    const gl = this.#gl;
    this.#every = every;
    for (const [name, [parts, type, normalized]] of Object.entries(PARTS)) {
      const place = gl.getAttribLocation(this.#program, name);
      gl.bindBuffer(gl.ARRAY_BUFFER, this.#buffers[name]);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, parts, gl[type], normalized, 4 * every, 0);
    }
  }
}

/** Pixels across of a point: small where there are many, larger as one comes near. */
export function pointSize(rows, zoom) {
  const base = Math.min(9, Math.max(1.5, 90 / Math.sqrt(Math.max(1, rows)) + 1));
  return Math.min(14, base * zoom ** 0.35);
}
