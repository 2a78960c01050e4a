/** Which points lie inside of a line that was drawn around them. */

const STRIPS = 512;

/**
 * The rows inside: a ray to the right of such a point crosses the outline an odd number of times. Only the edges at
 * the point's height can be crossed, so the outline is cut into strips first.
 *
 * @param {number[]} outline x0, y0, x1, y1, …; closed by itself, and it may cross itself
 * @param {Float32Array} xs
 * @param {Float32Array} ys
 * @returns {Uint32Array} ascending
 */
export function rowsInside(outline, xs, ys) {
  const [across, up] = [0, 1].map((first) => outline.filter((_, at) => at % 2 === first));
  const [left, right, low, high] = [Math.min(...across), Math.max(...across), Math.min(...up), Math.max(...up)];
  const stripOf = (y) => Math.min(STRIPS - 1, Math.floor(((y - low) / (high - low)) * STRIPS));
  const strips = Array.from({ length: high > low ? STRIPS : 0 }, () => []);
  for (let at = 0, before = across.length - 1; strips.length && at < across.length; before = at++) {
    const edge = [across[before], up[before], across[at], up[at]];
    const last = stripOf(Math.max(edge[1], edge[3]));
    for (let strip = stripOf(Math.min(edge[1], edge[3])); strip <= last; strip++) strips[strip].push(edge);
  }
  const rows = new Uint32Array(xs.length);
  let count = 0;
  for (let row = 0; strips.length && row < xs.length; row++) {
    const x = xs[row];
    const y = ys[row];
    if (x < left || x > right || y < low || y > high) continue;
    if (crossedOddly(strips[stripOf(y)], x, y)) rows[count++] = row;
  }
  return rows.slice(0, count);
}

function crossedOddly(edges, x, y) {
  let odd = false;
  for (const edge of edges) {
    if (edge[1] > y === edge[3] > y) continue;
    if (x < edge[0] + ((y - edge[1]) / (edge[3] - edge[1])) * (edge[2] - edge[0])) odd = !odd;
  }
  return odd;
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
