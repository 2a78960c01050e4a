/** What of the map is seen: a centre, and how many times it is larger than as a whole. The map is -1 … 1. */

export const WHOLE = { x: 0, y: 0, zoom: 1 };
const MOST = 4096;
const MARGIN = 0.94;

/** Pixels for one unit of the map, on a canvas of this size. */
export const unit = (camera, width, height) => (Math.min(width, height) / 2) * MARGIN * camera.zoom;

/** Where a pixel of the canvas is on the map. */
export function toMap(camera, width, height, px, py) {
  const size = unit(camera, width, height);
  return [camera.x + (px - width / 2) / size, camera.y - (py - height / 2) / size];
}

/** Where a place of the map is on the canvas, in pixels. */
export function toPixels(camera, width, height, x, y) {
  const size = unit(camera, width, height);
  return [width / 2 + (x - camera.x) * size, height / 2 - (y - camera.y) * size];
}

/** The camera moved by pixels. */
export function panned(camera, width, height, dx, dy) {
  const size = unit(camera, width, height);
  return bounded({ ...camera, x: camera.x - dx / size, y: camera.y + dy / size });
}

/** The camera `factor` times as near; what is under the pixel stays there. */
export function zoomed(camera, width, height, px, py, factor) {
  const [x, y] = toMap(camera, width, height, px, py);
  const zoom = Math.min(MOST, Math.max(1, camera.zoom * factor));
  const [nx, ny] = toMap({ ...camera, zoom }, width, height, px, py);
  return bounded({ x: camera.x + x - nx, y: camera.y + y - ny, zoom });
}

function bounded(camera) {
  const within = (value) => Math.min(1, Math.max(-1, value));
  return { ...camera, x: within(camera.x), y: within(camera.y) };
}
