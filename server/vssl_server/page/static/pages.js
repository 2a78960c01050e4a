/** Rows of a long list by pages: fetched where one looks, kept near it, forgotten elsewhere. */

export const SIZE = 200;
const KEPT = 24; // pages: some thousand rows in memory, of however many

/** `fetchPage(offset, signal)` gives `{data, next}`; `onChange` is called when rows have come or could not. */
export class Pages {
  #pages = new Map();
  #ending = new AbortController();
  #busy = false;
  #wanted = [0, 0];

  constructor(fetchPage, onChange) {
    this.fetchPage = fetchPage;
    this.onChange = onChange;
    this.problem = null;
    this.whole = false; // whether `length` is that of the list
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

  /** Says how many rows there are, so that one can go to any of them at once. */
  expect(total) {
    if (this.whole || total <= this.length) return;
    this.length = total;
    this.onChange();
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
        const { data, next } = await this.fetchPage(page * SIZE, this.#ending.signal);
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

  /** The first wanted page that is not in memory. */
  #next() {
    const [first, last] = this.#wanted;
    for (let page = first; page <= last; page++) {
      if (!this.#pages.has(page)) return page * SIZE < this.length || !this.whole ? page : null;
    }
    return null;
  }

  #keep(page, data, next) {
    this.#pages.set(page, data);
    const end = page * SIZE + data.length;
    if (next === null) [this.length, this.whole] = [end, true];
    else this.length = Math.max(this.length, end);
    const far = (one) => Math.abs(one - this.#wanted[0]);
    if (this.#pages.size > KEPT) {
      this.#pages.delete([...this.#pages.keys()].reduce((most, one) => (far(one) > far(most) ? one : most)));
    }
  }
}
