/** Talks to the server that the page came from, and to nobody else. */

const BASE = new URL("..", document.baseURI); // the page is at …/ui/, whatever a proxy puts before it
const KEY = "vssl-key";

/** The API key: in this tab's session storage alone, gone when the tab is closed. */
export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (text) => (text ? sessionStorage.setItem(KEY, text) : sessionStorage.removeItem(KEY)),
};

/** Where a path of the server is, such as `/v1/galleries`. */
export const address = (path) => new URL(path.slice(1), BASE).href;

/** The path of a gallery; `query` holds its parameters, without those that are null or undefined. */
export function pathOf(gallery, rest = "", query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  const text = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));
  const parameters = given.map(([name, value]) => `${name}=${encodeURIComponent(text(value))}`).join("&");
  return `/v1/galleries/${encodeURIComponent(gallery)}${rest}${parameters && "?"}${parameters}`;
}

/** JSON from a path. Throws an Error with `message`, `status` and `code`. */
export const get = async (path, options) => (await request("GET", path, undefined, options)).json();

/** Sends JSON, answers JSON. */
export const send = async (method, path, body, options) => (await request(method, path, body, options)).json();

/** Bytes from a path, as an ArrayBuffer. */
export const bytes = async (path, options) => (await request("GET", path, undefined, options)).arrayBuffer();

/** A picture from a path. */
export const blob = async (path, options) => (await request("GET", path, undefined, options)).blob();

async function request(method, path, body, { signal } = {}) {
  const headers = { "X-VSSL-Request": "1" };
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(address(path), { method, headers, signal, body: body && JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw failure("The server doesn't answer. It may have been stopped, or the network is gone.", 0, "unreachable");
  }
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => null);
  const { message, code } = said?.error ?? {};
  throw failure(message ?? `The server answers with status ${answer.status}.`, answer.status, code ?? "");
}

function failure(message, status, code) {
  return Object.assign(new Error(message), { status, code });
}
