/** Rows of a long list by pages: fetched one after another, kept near where one looks, forgotten elsewhere. */

export const SIZE = 200;
const KEPT = 24; // pages: some thousand rows in memory, of however many

/** `fetchPage(after, signal)` gives `{data, next}`; `onChange` is called when rows have come or could not. */
export class Pages {
  #cursors = [null]; // where each page begins
  #pages = new Map();
  #ending = new AbortController();
  #busy = false;
  #wanted = [0, 0];

  constructor(fetchPage, onChange) {
    this.fetchPage = fetchPage;
    this.onChange = onChange;
    this.problem = null;
    this.whole = false;
    this.length = 0; // rows that are known to be there, whether they are in memory or not
    this.#fill();
  }

  /** The row at a place; null while it is not in memory. */
  row(at) {
    return this.#pages.get(Math.floor(at / SIZE))?.[at % SIZE] ?? null;
  }

  /** All rows that are in memory now, with their places. */
  *inMemory() {
    for (const [page, rows] of this.#pages) for (let at = 0; at < rows.length; at++) yield [page * SIZE + at, rows[at]];
  }

  /** Asks for the rows from one place to another, and a page beyond. */
  need(first, last) {
    const place = (row) => Math.floor(Math.max(0, row) / SIZE);
    this.#wanted = [place(first), place(last + SIZE / 2)];
    this.#fill();
  }

  /** After a problem: asks again. */
  retry() {
    this.problem = null;
    this.#fill();
  }

  end() {
    this.#ending.abort();
  }

  async #fill() {
    if (this.#busy || this.problem) return;
    this.#busy = true;
    for (let page = this.#next(); page !== null && !this.#ending.signal.aborted; page = this.#next()) {
      try {
        const { data, next } = await this.fetchPage(this.#cursors[page], this.#ending.signal);
        this.#keep(page, data, next);
      } catch (error) {
        if (!this.#ending.signal.aborted) this.problem = error;
        break;
      }
      this.onChange();
    }
    this.#busy = false;
    if (this.problem) this.onChange();
  }

  /** The first wanted page that is not in memory, or the way there. */
  #next() {
    const [first, last] = this.#wanted;
    for (let page = first; page <= last; page++) {
      if (this.#pages.has(page)) continue;
      if (page < this.#cursors.length) return page;
      return this.whole ? null : this.#cursors.length - 1;
    }
    return null;
  }

  #keep(page, data, next) {
    this.#pages.set(page, data);
    this.length = Math.max(this.length, page * SIZE + data.length);
    if (next === null) this.whole = true;
    else if (page + 1 === this.#cursors.length) this.#cursors.push(next);
    const far = (one) => Math.abs(one - this.#wanted[0]);
    if (this.#pages.size > KEPT) {
      this.#pages.delete([...this.#pages.keys()].reduce((most, one) => (far(one) > far(most) ? one : most)));
    }
  }
}
