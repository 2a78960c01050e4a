/**
 * A table of texts as Parquet: one row group, a page a column, plain and not compressed.
 *
 * The format is that of https://parquet.apache.org/docs/file-format/; its headers are in Thrift's compact protocol, of
 * which this writes the few types that they need.
 */

const MAGIC = new TextEncoder().encode("PAR1");
const BYTE_ARRAY = 6;
const [PLAIN, RLE] = [0, 3];

/** Texts as a file of these bytes. `names` are the columns'; each row has a text or null for every one of them. */
export function toParquet(names, rows) {
  const parts = [MAGIC];
  let end = MAGIC.length;
  const chunks = names.map((name, column) => {
    const page = pageOf(rows.map((row) => row[column]));
    const chunk = chunkOf(name, rows.length, end, page.length);
    parts.push(page);
    end += page.length;
    return chunk;
  });
  const size = end - MAGIC.length;
  const footer = struct([
    [1, int(1)], // version
    [2, list([schema([4, text("schema")], [5, int(names.length)]), ...names.map(textColumn)])],
    [3, long(rows.length)],
    [4, list([struct([[1, list(chunks)], [2, long(size)], [3, long(rows.length)]])])],
    [6, text("VSSL")],
  ]).bytes;
  return joined([...parts, footer, littleEndian(footer.length), MAGIC]);
}

const schema = (...fields) => struct(fields);
const textColumn = (name) =>
  schema([1, int(BYTE_ARRAY)], [3, int(1)], [4, text(name)], [6, int(0)], [10, struct([[1, struct([])]])]); // may be null, UTF-8

function chunkOf(name, rows, offset, size) {
  const facts = [
    [1, int(BYTE_ARRAY)], [2, list([int(PLAIN), int(RLE)])], [3, list([text(name)])], [4, int(0)],
    [5, long(rows)], [6, long(size)], [7, long(size)], [9, long(offset)],
  ];
  return struct([[2, long(offset)], [3, struct(facts)]]);
}

/** A column with its header: which rows have a value, a bit each, and the values. */
function pageOf(values) {
  const groups = Math.ceil(values.length / 8);
  const present = new Uint8Array(groups);
  values.forEach((value, row) => value === null || (present[row >> 3] |= 1 << (row & 7)));
  const levels = joined([varint(2 * groups + 1), present]); // bit-packed, as the one run of the hybrid encoding
  const texts = values.filter((value) => value !== null).map((value) => new TextEncoder().encode(value));
  const body = joined([
    littleEndian(levels.length), levels, ...texts.flatMap((bytes) => [littleEndian(bytes.length), bytes]),
  ]);
  const about = struct([[1, int(values.length)], [2, int(PLAIN)], [3, int(RLE)], [4, int(RLE)]]);
  const header = struct([[1, int(0)], [2, int(body.length)], [3, int(body.length)], [5, about]]);
  return joined([header.bytes, body]);
}

/** Values of Thrift: each its type's number and its bytes. */
const int = (number) => ({ type: 5, bytes: varint(2 * number) }); // zigzag; none here is negative
const long = (number) => ({ type: 6, bytes: varint(2 * number) });

function text(value) {
  const bytes = new TextEncoder().encode(value);
  return { type: 8, bytes: joined([varint(bytes.length), bytes]) };
}

function list(values) {
  const { type } = values[0] ?? struct([]);
  const head = values.length < 15 ? [16 * values.length + type] : [0xf0 + type, ...varint(values.length)];
  return { type: 9, bytes: joined([head, ...values.map((value) => value.bytes)]) };
}

/** `fields` are [number, value], by number; none is more than 15 after the one before. */
function struct(fields) {
  let last = 0;
  const parts = fields.flatMap(([number, { type, bytes }]) => {
    const head = [16 * (number - last) + type];
    last = number;
    return [head, bytes];
  });
  return { type: 12, bytes: joined([...parts, [0]]) };
}

function varint(number) {
  const bytes = [];
  for (; number > 127; number = Math.floor(number / 128)) bytes.push((number % 128) + 128);
  return [...bytes, number];
}

const littleEndian = (number) => new Uint8Array(new Uint32Array([number]).buffer); // of every machine with a browser

function joined(parts) {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
