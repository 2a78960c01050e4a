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

export class Plot {
  #gl;
  #program;
  #buffers = {};
  #rows = 0;

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
    for (const name of ["x", "y", "colour"]) this.#buffers[name] = gl.createBuffer();
  }

  /** Where the points are, x and y in -1 … 1. */
  place(x, y) {
    this.#rows = x.length;
    this.#fill("x", x, 1, this.#gl.FLOAT, false);
    this.#fill("y", y, 1, this.#gl.FLOAT, false);
  }

  /** Their colours: four bytes each. */
  colour(bytes) {
    this.#fill("colour", bytes, 4, this.#gl.UNSIGNED_BYTE, true);
  }

  /** Draws what the camera sees; `ratio` is of the screen's pixels to those of CSS. */
  draw(camera, ratio) {
    const gl = this.#gl;
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
    gl.drawArrays(gl.POINTS, 0, this.#rows);
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

  #fill(name, values, parts, type, normalized) {
    const gl = this.#gl;
    const place = gl.getAttribLocation(this.#program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.#buffers[name]);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, parts, type, normalized, 0, 0);
  }
}

/** Pixels across of a point: small where there are many, larger as one comes near. */
export function pointSize(rows, zoom) {
  const base = Math.min(9, Math.max(1.5, 90 / Math.sqrt(Math.max(1, rows)) + 1));
  return Math.min(14, base * zoom ** 0.35);
}
