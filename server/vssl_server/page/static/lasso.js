/** Which points lie inside of a line that was drawn around them. */

/**
 * Whether a point is inside: a ray to its right crosses the outline an odd number of times.
 *
 * @param {number[]} outline x0, y0, x1, y1, …; closed by itself, and it may cross itself
 */
export function inside(outline, x, y) {
  let odd = false;
  for (let at = 0, before = outline.length - 2; at < outline.length; before = at, at += 2) {
    const [x0, y0, x1, y1] = [outline[before], outline[before + 1], outline[at], outline[at + 1]];
    if (y0 > y !== y1 > y && x < x0 + ((y - y0) / (y1 - y0)) * (x1 - x0)) odd = !odd;
  }
  return odd;
}

/**
 * @param {number[]} outline as of `inside`
 * @param {Float32Array} xs
 * @param {Float32Array} ys
 * @returns {Uint32Array} the rows inside, ascending
 */
export function rowsInside(outline, xs, ys) {
  const [across, down] = [0, 1].map((first) => outline.filter((_, at) => at % 2 === first));
  const [left, right, low, high] = [Math.min(...across), Math.max(...across), Math.min(...down), Math.max(...down)];
  const rows = new Uint32Array(xs.length);
  let count = 0;
  for (let row = 0; row < xs.length; row++) {
    const [x, y] = [xs[row], ys[row]];
    if (x < left || x > right || y < low || y > high) continue;
    if (inside(outline, x, y)) rows[count++] = row;
  }
  return rows.slice(0, count);
}

/** An outline with fewer corners: those nearer than `least` to the one before are left out. */
export function thinned(outline, least) {
  const kept = outline.slice(0, 2);
  for (let at = 2; at < outline.length; at += 2) {
    const end = kept.length;
    if (Math.hypot(outline[at] - kept[end - 2], outline[at + 1] - kept[end - 1]) >= least) {
      kept.push(outline[at], outline[at + 1]);
    }
  }
  return kept;
}
