/** Colours of the map's points. Categories differ for colour-blind eyes too; of numbers, the high ones stand out. */

const CATEGORIES = [
  "#0072b2", "#e08700", "#009e73", "#cc6699", "#4aa8dc", "#d55e00", "#8368d8", "#a89400", "#8a5a3c", "#4f8a8b",
];
const LIGHT = { ramp: ["#a9c4e6", "#7f86cf", "#8a3f9b", "#4a0d4f"], other: "#8d8d8d", none: "#c9c9c9" };
const DARK = { ramp: ["#3a4a80", "#7a66c2", "#dd7fae", "#ffdca6"], other: "#8f8f8f", none: "#4c4c4c" };
const SAMPLE = 20000;

const bytesOf = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** The colour of `share` in 0 … 1 of a scale of colours, as three bytes. */
export function onRamp(ramp, share) {
  const at = Math.min(1, Math.max(0, share)) * (ramp.length - 1);
  const first = Math.min(ramp.length - 2, Math.floor(at));
  const [a, b] = [bytesOf(ramp[first]), bytesOf(ramp[first + 1])];
  return a.map((value, channel) => Math.round(value + (b[channel] - value) * (at - first)));
}

/**
 * The 2nd and the 98th percentile: a few odd values would leave all others in one colour. Of many values a sample is
 * taken; where all are the same, a scale around that one.
 *
 * @returns {[number, number]|null} null where there are no values
 */
export function bounds(values) {
  const step = Math.max(1, Math.floor(values.length / SAMPLE));
  const known = new Float32Array(Math.ceil(values.length / step)).map((_, at) => values[at * step]);
  const sorted = known.filter((value) => !Number.isNaN(value)).sort();
  if (!sorted.length) return null;
  const [low, high] = [0.02, 0.98].map((share) => sorted[Math.round(share * (sorted.length - 1))]);
  return low < high ? [low, high] : [low - 0.5, low + 0.5];
}

/**
 * What each value of a column looks like, for points and legend.
 *
 * @param {{kind: string, data: Int32Array|Float32Array, values?: string[]}|null} column null: all in one colour
 * @param {boolean} dark
 * @param {string} accent
 * @returns {{kind: string, of: function(number): number[], entries: Object[], range: number[]|null, ramp: string[]}}
 *   `of`: three bytes for a value of `data`; `entries` of a category: `code`, `text`, `rows`, `colour`, the commonest
 *   first; `range` of numbers
 */
export function scaleOf(column, dark, accent) {
  const theme = dark ? DARK : LIGHT;
  if (!column) return { kind: "one", of: () => bytesOf(accent), entries: [], range: null, ramp: [] };
  return column.kind === "category" ? categories(column, theme) : numbers(column, theme);
}

function categories(column, theme) {
  const counts = new Uint32Array(column.values.length + 1);
  for (const code of column.data) counts[code + 1]++;
  const order = column.values.map((_, code) => code).sort((a, b) => counts[b + 1] - counts[a + 1] || a - b);
  const hex = new Array(column.values.length + 1).fill(theme.other);
  hex[0] = theme.none;
  for (const [rank, code] of order.slice(0, CATEGORIES.length).entries()) hex[code + 1] = CATEGORIES[rank];
  const colours = hex.map(bytesOf);
  const entries = order.map((code) => ({
    code, text: column.values[code], rows: counts[code + 1], colour: hex[code + 1],
  }));
  if (counts[0]) entries.push({ code: -1, text: null, rows: counts[0], colour: theme.none });
  return { kind: "category", of: (code) => colours[code + 1], entries, range: null, ramp: [] };
}

function numbers(column, theme) {
  const range = bounds(column.data);
  const steps = Array.from({ length: 256 }, (_, step) => onRamp(theme.ramp, step / 255));
  const none = bytesOf(theme.none);
  const of = (value) => {
    if (Number.isNaN(value)) return none;
    return steps[Math.round(255 * Math.min(1, Math.max(0, (value - range[0]) / (range[1] - range[0]))))];
  };
  return { kind: "number", of, entries: [], range, ramp: theme.ramp };
}

/**
 * The colours of all points, four bytes each.
 *
 * @param {Uint8Array|null} chosen 1 for each chosen row: the others fade
 * @returns {Uint8Array} [rows × 4]
 */
export function paint(rows, column, scale, chosen) {
  const colours = new Uint8Array(4 * rows);
  for (let row = 0; row < rows; row++) {
    const [red, green, blue] = scale.of(column ? column.data[row] : 0);
    const at = 4 * row;
    colours[at] = red;
    colours[at + 1] = green;
    colours[at + 2] = blue;
    colours[at + 3] = !chosen || chosen[row] ? 255 : 40;
  }
  return colours;
}
