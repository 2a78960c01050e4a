/** Sets labels, remembers what they were, and takes them back. */

import { byLabel, Changes, Undo } from "./undo.js";

const MOST = 10_000;
const RECENT = 9;

export class Labelling {
  undo = new Undo();
  changes = new Changes();
  #used; // the labels of the digits, the one used longest ago first

  /**
   * @param {function(string[], string|null): Promise<void>} write sets the label of at most 10,000 ids on the server
   * @param {function(string[]): Promise<{id: string, label: string|null}[]>} read the rows of these ids as they are now
   * @param {string[]} common labels that the digits stand for before any was used
   */
  constructor(write, read, common = []) {
    this.write = write;
    this.read = read;
    /** The labels of the digits 1 … 9. A label keeps its digit while it is used. */
    this.digits = common.slice(0, RECENT);
    this.#used = this.digits.toReversed();
  }

  /**
   * Sets one label.
   *
   * @param {Map<string, string|null>} before the label that each id has
   * @param {string|null} label null takes it away
   * @returns {Promise<string>} what was done, in words
   */
  async set(before, label) {
    const what = `${label === null ? "no label" : `“${label}”`} on ${count(before.size)}`;
    await this.#write([...before.keys()], label);
    for (const [id, was] of before) this.changes.note(id, was, label);
    if (label !== null) this.#remember(label);
    this.undo.add(what, () => this.#back(before, label));
    return what;
  }

  /** Gives rows the label that they had, but for those that somebody else has labelled or deleted since. */
  async #back(before, label) {
    const now = new Map((await this.read([...before.keys()])).map((row) => [row.id, row.label]));
    const ours = new Map([...before].filter(([id]) => now.get(id) === label));
    for (const [was, ids] of byLabel(ours)) {
      await this.#write(ids, was);
      for (const id of ids) this.changes.note(id, label, was);
    }
    const others = [...before.keys()].filter((id) => !ours.has(id));
    for (const id of others) now.has(id) ? this.changes.note(id, label, now.get(id)) : this.changes.forget(id);
    return others.length ? `not of ${count(others.length)}, which somebody else has changed since` : null;
  }

  #remember(label) {
    const { length } = this.digits;
    if (!this.digits.includes(label)) {
      this.digits[length < RECENT ? length : this.digits.indexOf(this.#used[0])] = label;
      if (length === RECENT) this.#used.shift();
    }
    this.#used = [...this.#used.filter((one) => one !== label), label];
  }

  async #write(ids, label) {
    for (let at = 0; at < ids.length; at += MOST) await this.write(ids.slice(at, at + MOST), label);
  }
}

/** So many images, in words. */
export const count = (rows) => `${rows.toLocaleString("en")} image${rows === 1 ? "" : "s"}`;
