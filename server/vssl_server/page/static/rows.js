/** Rows of a gallery by their ids. */

import { get } from "./api.js";

const MOST = 100;
const LENGTH = 4000; // of the ids in one address: servers and proxies take 8 kB

/** Ids in parts that one address can hold. */
export function parts(ids) {
  const found = [];
  let length = Infinity;
  for (const id of ids) {
    const own = encodeURIComponent(JSON.stringify(id)).length + 3;
    if (length + own > LENGTH || found.at(-1).length === MOST) {
      found.push([]);
      length = 0;
    }
    found.at(-1).push(id);
    length += own;
  }
  return found;
}

/**
 * The rows of these ids, in their order; ids that are not there are left out.
 *
 * @param {string} gallery
 * @param {string[]} ids
 * @param {{signal?: AbortSignal}} options
 */
export async function rowsOf(gallery, ids, options = {}) {
  const rows = new Map();
  for (const part of parts(ids)) {
    const filter = encodeURIComponent(JSON.stringify({ id: { $in: part } }));
    const { data } = await get(`/v1/galleries/${gallery}/images?limit=${MOST}&filter=${filter}`, options);
    for (const row of data) rows.set(row.id, row);
  }
  return ids.map((id) => rows.get(id)).filter(Boolean);
}
