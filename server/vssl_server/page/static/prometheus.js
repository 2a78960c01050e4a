/** Reads Prometheus's text format, and what can be said of counters and histograms. */

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?[ \t]*$/;
const LABEL = /\s*([a-zA-Z_]\w*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*,?/y;
const ESCAPES = { n: "\n", '"': '"', "\\": "\\" };

/**
 * @param {string} text
 * @returns {{name: string, labels: Object<string, string>, value: number}[]} the samples, in their order
 */
export function parse(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const found = line.startsWith("#") ? null : LINE.exec(line.trim());
    if (found) samples.push({ name: found[1], labels: labelsOf(found[2] ?? ""), value: number(found[3]) });
  }
  return samples;
}

function labelsOf(text) {
  const labels = {};
  LABEL.lastIndex = 0;
  for (let found = LABEL.exec(text); found; found = LABEL.exec(text)) {
    labels[found[1]] = found[2].replace(/\\(.)/g, (whole, letter) => ESCAPES[letter] ?? whole);
  }
  return labels;
}

function number(text) {
  if (/^[+-]?inf/i.test(text)) return text.startsWith("-") ? -Infinity : Infinity;
  return Number(text);
}

/** The sum of a series' samples whose labels are these. */
export function total(samples, name, labels = {}) {
  return chosen(samples, name, labels).reduce((sum, sample) => sum + sample.value, 0);
}

/** The sums by one label's values. */
export function totals(samples, name, by, labels = {}) {
  const sums = {};
  for (const sample of chosen(samples, name, labels)) {
    sums[sample.labels[by]] = (sums[sample.labels[by]] ?? 0) + sample.value;
  }
  return sums;
}

/**
 * A histogram, summed over all series whose labels are these.
 *
 * @returns {{bounds: number[], counts: number[], sum: number}} upper bounds, ascending, the last Infinity; `counts` in
 *   each bucket alone
 */
export function histogram(samples, name, labels = {}) {
  const cumulative = new Map();
  for (const sample of chosen(samples, `${name}_bucket`, labels)) {
    const bound = number(sample.labels.le);
    cumulative.set(bound, (cumulative.get(bound) ?? 0) + sample.value);
  }
  const bounds = [...cumulative.keys()].sort((a, b) => a - b);
  const counts = bounds.map((bound, at) => cumulative.get(bound) - (at ? cumulative.get(bounds[at - 1]) : 0));
  return { bounds, counts, sum: total(samples, `${name}_sum`, labels) };
}

function chosen(samples, name, labels) {
  const wanted = Object.entries(labels);
  return samples.filter((one) => one.name === name && wanted.every(([label, value]) => one.labels[label] === value));
}

/** By how much a counter grew; one that is smaller than before began again at 0, as when the server restarts. */
export const grown = (before, now) => (now >= before ? now - before : now);

/** The same for the counts of a histogram's buckets. */
export function grownCounts(before, now) {
  const again = before.length !== now.length || now.some((count, at) => count < before[at]);
  return again ? now : now.map((count, at) => count - before[at]);
}

/**
 * The value under which a share of what was counted lies, linear within a bucket, as Prometheus's
 * `histogram_quantile`; NaN where nothing was counted.
 */
export function quantile(share, bounds, counts) {
  const rows = counts.reduce((sum, count) => sum + count, 0);
  if (!rows) return NaN;
  let below = 0;
  for (const [at, count] of counts.entries()) {
    if (below + count >= share * rows && count > 0) {
      if (bounds[at] === Infinity) return at ? bounds[at - 1] : NaN;
      const start = at ? bounds[at - 1] : Math.min(0, bounds[0]);
      return start + (bounds[at] - start) * ((share * rows - below) / count);
    }
    below += count;
  }
  return bounds.at(-2) ?? NaN;
}
