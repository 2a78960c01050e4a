/** What was done and can be undone, the last first; and how a gallery differs from what it was when we came. */

const MOST = 200;

export class Undo {
  #done = [];

  /** How many steps can be undone. */
  get size() {
    return this.#done.length;
  }

  /** What the next undo would undo, in words; null where there is nothing. */
  get next() {
    return this.#done.at(-1)?.what ?? null;
  }

  /**
   * @param {string} what in words
   * @param {function(): Promise<string|null>} back undoes it, and says in words of what it did not
   */
  add(what, back) {
    this.#done.push({ what, back });
    if (this.#done.length > MOST) this.#done.shift();
  }

  /** Undoes the last step and says which; a step that fails stays, so that it can be tried again. */
  async undo() {
    const step = this.#done.at(-1);
    if (!step) return null;
    const left = await step.back();
    this.#done.splice(this.#done.indexOf(step), 1);
    return left ? `${step.what}, ${left}` : step.what;
  }
}

/** Labels that were changed here: what each was, and what it is. */
export class Changes {
  #rows = new Map();

  get size() {
    return this.#rows.size;
  }

  /** Notes that a row's label is another now; one that is as it was at first is no change. */
  note(id, before, after) {
    const first = this.#rows.has(id) ? this.#rows.get(id).before : before;
    if (first === after) this.#rows.delete(id);
    else this.#rows.set(id, { before: first, after });
  }

  /** Forgets a row that is gone. */
  forget(id) {
    this.#rows.delete(id);
  }

  /** The changed rows by id, as what writes a table takes them: the names, and a line of each row. */
  table() {
    const rows = [...this.#rows].sort(([a], [b]) => (a < b ? -1 : 1));
    return [["id", "label", "label_before"], rows.map(([id, { before, after }]) => [id, after, before])];
  }
}

/** Rows as CSV (RFC 4180); null is an empty field, and an empty text is quoted. */
export function toCsv(names, rows) {
  const field = (value) => {
    if (value === null || value === undefined) return "";
    const text = String(value);
    return text === "" || /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [names, ...rows].map((row) => `${row.map(field).join(",")}\r\n`).join("");
}

/** Ids by the label that each has: what a request of one label each can set. */
export function byLabel(labels) {
  const groups = new Map();
  for (const [id, label] of labels) {
    if (!groups.has(label)) groups.set(label, []);
    groups.get(label).push(id);
  }
  return groups;
}

/** Labels that fit what was typed: those that start with it first, then those that hold it; both in their order. */
export function suggestions(labels, typed, most = 8) {
  const wanted = typed.trim().toLowerCase();
  const starts = labels.filter((label) => label.toLowerCase().startsWith(wanted));
  const holds = labels.filter((label) => label.toLowerCase().includes(wanted) && !starts.includes(label));
  return [...starts, ...holds].slice(0, most);
}
