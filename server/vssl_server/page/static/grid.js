/** Which point is nearest to a place: points sorted into the cells of a grid. */

const PER_CELL = 8;

export class Grid {
  /**
   * @param {Float32Array} x in -1 … 1
   * @param {Float32Array} y in -1 … 1
   */
  constructor(x, y) {
    this.x = x;
    this.y = y;
    this.side = Math.max(1, Math.floor(Math.sqrt(x.length / PER_CELL)));
    this.starts = new Uint32Array(this.side ** 2 + 1);
    this.rows = new Uint32Array(x.length);
    for (let row = 0; row < x.length; row++) this.starts[this.#cell(row) + 1]++;
    for (let cell = 0; cell < this.side ** 2; cell++) this.starts[cell + 1] += this.starts[cell];
    const next = this.starts.slice();
    for (let row = 0; row < x.length; row++) this.rows[next[this.#cell(row)]++] = row;
  }

  /**
   * @param {number} x
   * @param {number} y
   * @param {number} radius in the same units
   * @param {Uint8Array|null} shown 0 for a row that can't be found
   * @returns {number} the row nearest to (x, y) within `radius`, -1 where there is none
   */
  nearest(x, y, radius, shown = null) {
    let best = -1;
    let least = radius ** 2;
    const [left, right] = [this.#place(x - radius), this.#place(x + radius)];
    for (let line = this.#place(y - radius); line <= this.#place(y + radius); line++) {
      const first = this.starts[line * this.side + left];
      const last = this.starts[line * this.side + right + 1];
      for (let at = first; at < last; at++) {
        const row = this.rows[at];
        const distance = (this.x[row] - x) ** 2 + (this.y[row] - y) ** 2;
        if (distance > least || (distance === least && best >= 0) || (shown && !shown[row])) continue;
        [best, least] = [row, distance];
      }
    }
    return best;
  }

  #place(value) {
    return Math.min(this.side - 1, Math.max(0, Math.floor(((value + 1) / 2) * this.side)));
  }

  #cell(row) {
    return this.#place(this.y[row]) * this.side + this.#place(this.x[row]);
  }
}
