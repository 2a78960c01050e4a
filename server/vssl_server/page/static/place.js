/** Where in the page one is: `#/GALLERY/VIEW?parameters`. Every state worth a link is in it. */

import { useEffect, useState } from "./vendor/preact.js";

/** What an address means. */
export function read(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [gallery = "", view = ""] = path.split("/").map(decoded);
  return { gallery, view, query: Object.fromEntries(new URLSearchParams(query)) };
}

/** The address of a place; parameters that are empty are left out. */
export function hashOf(gallery, view = "", query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const parameters = new URLSearchParams(given).toString();
  const path = [gallery, view].filter(Boolean).map(encodeURIComponent).join("/");
  return `#/${path}${parameters && "?"}${parameters}`;
}

/** Goes there; `quietly` without a step back in the browser's history. */
export function go(hash, quietly = false) {
  if (quietly) history.replaceState(null, "", hash);
  else history.pushState(null, "", hash);
  dispatchEvent(new Event("hashchange"));
}

/** The place as it is now. */
export function usePlace() {
  const [place, setPlace] = useState(() => read(location.hash));
  useEffect(() => {
    const told = () => setPlace(read(location.hash));
    addEventListener("hashchange", told);
    addEventListener("popstate", told);
    return () => {
      removeEventListener("hashchange", told);
      removeEventListener("popstate", told);
    };
  }, []);
  return place;
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // typed by hand
  }
}
