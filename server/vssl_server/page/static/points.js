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
  let ids = null; // a million texts take a while to read, and the first frame needs none of them
  map.idOf = (row) => (ids ??= JSON.parse(new TextDecoder().decode(bytes.subarray(blocks))))[row];
  return map;
}
