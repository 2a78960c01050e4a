/** Whether images are more uncertain than those that the model's calibration was fitted on. */

const TAIL = 0.05;
const LEAST = 100;
const SIGMAS = 3;

/**
 * Percentiles are even among images like the reference: a twentieth of them lies over 95. A share that differs by
 * three standard errors is a drift.
 *
 * @param {number[]} rows of the histogram of `percentile`, equal bins over 0 … 100, their number a multiple of 20
 * @returns {{rows: number, share: number|null, state: string}} `share` over the 95th percentile; `state`: "few" (under
 *   100 images), "as expected", "more uncertain" or "less uncertain"
 */
export function drift(rows) {
  const all = rows.reduce((sum, count) => sum + count, 0);
  if (all < LEAST) return { rows: all, share: null, state: "few" };
  const over = rows.slice(-rows.length * TAIL).reduce((sum, count) => sum + count, 0);
  const share = over / all;
  const sigmas = (share - TAIL) / Math.sqrt((TAIL * (1 - TAIL)) / all);
  if (Math.abs(sigmas) < SIGMAS) return { rows: all, share, state: "as expected" };
  return { rows: all, share, state: sigmas > 0 ? "more uncertain" : "less uncertain" };
}

/** The same as a sentence. */
export function inWords({ rows, share, state }) {
  const images = `${rows.toLocaleString("en")} image${rows === 1 ? "" : "s"}`;
  if (state === "few") return `${images}: too few to say whether they have drifted; it takes ${LEAST}.`;
  const found = `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} % of ${images} are more uncertain than 95 % of the reference`;
  if (state === "as expected") return `No drift: ${found}, and 5 % are expected.`;
  if (state === "more uncertain") return `Drift: ${found}, where 5 % are expected. Look at the most uncertain ones.`;
  return `These images are easier than the reference: ${found}, where 5 % are expected.`;
}
