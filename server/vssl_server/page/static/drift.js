/** Whether images are more uncertain than those that the model's calibration was fitted on. */

export const TAIL = 95;
const EXPECTED = 1 - TAIL / 100;
const LEAST = 100;
const SIGMAS = 3;

/**
 * Percentiles are even among images like the reference: a twentieth of them lies over 95. A share that differs by
 * three standard errors is a drift.
 *
 * @param {number} rows with a percentile
 * @param {number} over those of them over 95
 * @returns {{rows: number, share: number|null, state: string}} `state`: "few" (under 100 images), "as expected", "more
 *   uncertain" or "less uncertain"
 */
export function drift(rows, over) {
  if (rows < LEAST) return { rows, share: null, state: "few" };
  const share = over / rows;
  const sigmas = (share - EXPECTED) / Math.sqrt((EXPECTED * (1 - EXPECTED)) / rows);
  if (Math.abs(sigmas) < SIGMAS) return { rows, share, state: "as expected" };
  return { rows, share, state: sigmas > 0 ? "more uncertain" : "less uncertain" };
}

/** The same as a sentence. */
export function inWords({ rows, share, state }) {
  const images = `${rows.toLocaleString("en")} image${rows === 1 ? "" : "s"}`;
  if (state === "few") return `${images}: too few to say whether they have drifted; it takes ${LEAST}.`;
  const per = `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
  const found = `${per} of ${images} are more uncertain than ${TAIL} % of the reference`;
  if (state === "as expected") return `No drift: ${found}, and 5 % are expected.`;
  if (state === "more uncertain") return `Drift: ${found}, where 5 % are expected. Look at the most uncertain ones.`;
  return `These images are easier than the reference: ${found}, where 5 % are expected.`;
}
