/** Reads a server's /metrics every two seconds, from the first view that shows them until the page is closed. */

import { EVERY, Hour, reading } from "./hour.js";

export const hour = new Hour();

/** What went wrong with the last reading, as a sentence; null where it went well. */
export let problem = null;

const listeners = new Set();
let begun = false;

/** Calls back after each reading; gives what ends that. */
export function follow(told) {
  listeners.add(told);
  if (!begun) poll();
  begun = true;
  return () => listeners.delete(told);
}

async function poll() {
  problem = await read().catch(() => "The server doesn't answer. What is shown ends with the last reading.");
  for (const told of listeners) told();
  setTimeout(poll, EVERY);
}

async function read() {
  const answer = await fetch(new URL("../metrics", document.baseURI), { cache: "no-store" });
  if (answer.status === 404) {
    return "This server shows its metrics on a port of their own (--metrics-port), so nothing live can be shown here.";
  }
  if ([401, 403].includes(answer.status)) return "The metrics of this server need a key that this page hasn't.";
  if (!answer.ok) return `The metrics can't be read: the server answers with status ${answer.status}.`;
  hour.add(reading(await answer.text(), Date.now()));
  return null;
}
