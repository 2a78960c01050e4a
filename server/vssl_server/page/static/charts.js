/** Small charts in SVG: bars with what was expected, and lines over time. Words beside them say the same. */

import { html } from "./vendor/preact.js";

const WIDTH = 320;
const HEIGHT = 96;

/** Three figures are enough to read. */
export const short = (value) =>
  value === null || value === undefined || Number.isNaN(value)
    ? "–"
    : Number(value.toPrecision(3)).toLocaleString("en", { maximumFractionDigits: 6 });

/** The share that each part has of all; zeros where there are none. */
export function shares(rows) {
  const all = rows.reduce((sum, count) => sum + count, 0);
  return rows.map((count) => (all ? count / all : 0));
}

/**
 * A histogram as shares; beside it, as a line, another one over the same edges, and what is expected in each bar.
 *
 * @param {{edges: number[], rows: number[], other: number[]|null, expected: number[]|null, label: string}} props
 */
export function Bars({ edges, rows, other = null, expected = null, label }) {
  const [bars, line] = [shares(rows), other ? shares(other) : null];
  const most = Math.max(1e-9, ...bars, ...(line ?? []), ...(expected ?? []));
  const [low, high] = [edges[0], edges.at(-1)];
  const x = (value) => (high > low ? (WIDTH * (value - low)) / (high - low) : 0);
  const y = (share) => HEIGHT * (1 - share / most);
  const steps = (values) =>
    values.map((share, bin) => `${bin ? "L" : "M"}${x(edges[bin])},${y(share)}H${x(edges[bin + 1])}`).join("");
  return html`<figure class="chart">
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img" aria-label=${label}>
      ${bars.map(
        (share, bin) => html`<rect class="chart-bar" x=${x(edges[bin])} y=${y(share)}
          width=${Math.max(0, x(edges[bin + 1]) - x(edges[bin]) - 0.5)} height=${HEIGHT - y(share)} />`,
      )}
      ${line && html`<path class="chart-other" d=${steps(line)} />`}
      ${expected && html`<path class="chart-expected" d=${steps(expected)} />`}
    </svg>
    <figcaption><span>${short(low)}</span><span>${short(high)}</span></figcaption>
  </figure>`;
}

/**
 * Values over time, a line each; NaN leaves a gap.
 *
 * @param {{series: number[][], label: string}} props
 */
export function Lines({ series, label }) {
  const most = Math.max(1e-9, ...series.flat().filter(Number.isFinite));
  const path = (values) => {
    let pen = "M";
    return values
      .map((value, at) => {
        if (!Number.isFinite(value)) return (pen = "M") && "";
        const place = `${pen}${(WIDTH * at) / Math.max(1, values.length - 1)},${HEIGHT * (1 - value / most)}`;
        pen = "L";
        return place;
      })
      .join("");
  };
  return html`<svg class="chart-lines" viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img"
    aria-label=${label}>
    ${series.map((values, which) => html`<path class="chart-line chart-line-${which}" d=${path(values)} />`)}
  </svg>`;
}
