/** Small pictures of a gallery. With a key they are fetched, as an `<img>` sends none, and kept as `blob:` addresses. */

import { address, blob, key, pathOf } from "./api.js";

const KEPT = 800;
const kept = new Map(); // path → promise of an address, the longest unused first

/** The address of a thumbnail, for `<img src>`. */
export function sourceOf(gallery, id) {
  const path = pathOf(gallery, "/thumbnail", { id });
  if (!key.get()) return address(path);
  const found = kept.get(path) ?? blob(path).then((picture) => URL.createObjectURL(picture));
  kept.delete(path);
  kept.set(path, found);
  if (kept.size > KEPT) forget(kept.keys().next().value);
  found.catch(() => kept.delete(path));
  return found;
}

function forget(path) {
  kept.get(path).then(URL.revokeObjectURL, () => {});
  kept.delete(path);
}
