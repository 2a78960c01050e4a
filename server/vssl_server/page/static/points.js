/** The map of a gallery as it comes from the server: places, columns to colour by, and ids. */

/**
 * Reads a line of JSON and the little-endian blocks behind it.
 *
 * @param {ArrayBuffer} buffer the body of GET …/map
 * @returns {{rows: number, method: string, version: number, stale: boolean, x: Float32Array, y: Float32Array,
 *   columns: Object[], idOf: function(number): string}} x and y in -1 … 1; a column has `name`, `kind` ("category" or
 *   "number"), `data` [rows] and, of a category, `values`: the texts that `data` counts from 0, -1 for none
 */
export function readMap(buffer) {
  const bytes = new Uint8Array(buffer);
  const end = bytes.indexOf(10);
  if (end < 0) throw new Error("The map that came has no header");
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end)));
  const { rows, columns } = header;
  const blocks = end + 1 + 4 * rows * (2 + columns.length);
  if (buffer.byteLength !== blocks + header.ids_bytes) throw new Error("The map came in part; load it again");
  let at = end + 1;
  const block = (Kind) => new Kind(buffer.slice(at, (at += 4 * rows))); // a copy, because the header ends anywhere
  const map = { ...header, stale: Boolean(header.stale), x: block(Float32Array), y: block(Float32Array) };
  map.columns = columns.map((column) => ({
    ...column,
    data: block(column.kind === "category" ? Int32Array : Float32Array),
  }));
  const ids = bytes.subarray(blocks);
  let starts = null; // a million texts would take a second to read and much memory; few of them are asked for
  map.idOf = (row) => {
    starts ??= startsOf(ids, rows);
    return JSON.parse(new TextDecoder().decode(ids.subarray(starts[row], textEnd(ids, starts[row]))));
  };
  return map;
}

const [QUOTE, BACKSLASH] = [34, 92];

/** Where each text of a JSON list begins, with its quote. */
function startsOf(list, rows) {
  const starts = new Uint32Array(rows);
  let at = 0;
  for (let row = 0; row < rows; row++) {
    while (list[at] !== QUOTE) at++;
    starts[row] = at;
    at = textEnd(list, at);
  }
  return starts;
}

/** Where a text that begins at `start` ends, behind its quote. */
function textEnd(list, start) {
  let at = start + 1;
  while (list[at] !== QUOTE) at += list[at] === BACKSLASH ? 2 : 1;
  return at + 1;
}
