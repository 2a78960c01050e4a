/** The last hour of a server's metrics, in memory: small readings, and what two of them say of the time between. */

import { grown, grownCounts, histogram, parse, quantile, total, totals } from "./prometheus.js";

export const EVERY = 2000;
const HOUR = 3600_000;

/**
 * What we keep of the text of /metrics.
 *
 * @param {string} text
 * @param {number} at milliseconds
 */
export function reading(text, at) {
  const samples = parse(text);
  return {
    at,
    requests: total(samples, "vssl_requests_total"),
    refusals: totals(samples, "vssl_refusals_total", "cause"),
    images: totals(samples, "vssl_images_total", "outcome"),
    queue: total(samples, "vssl_queue_images"),
    seconds: histogram(samples, "vssl_request_duration_seconds"),
    uncertainty: histogram(samples, "vssl_uncertainty"),
  };
}

export class Hour {
  #readings = [];

  /** Keeps a reading, and drops those older than an hour before it. */
  add(one) {
    this.#readings.push(one);
    while (this.#readings[0].at < one.at - HOUR) this.#readings.shift();
  }

  get readings() {
    return this.#readings;
  }

  /** What happened between the first reading and the last; null before there are two. */
  get whole() {
    return this.#readings.length < 2 ? null : between(this.#readings[0], this.#readings.at(-1));
  }

  /** What happened in each of at most `most` equal parts of the hour, the oldest first. */
  steps(most = 120) {
    const size = Math.max(1, Math.ceil((this.#readings.length - 1) / most));
    const found = [];
    for (let last = this.#readings.length - 1; last >= size; last -= size) {
      found.unshift(between(this.#readings[last - size], this.#readings[last]));
    }
    return found;
  }
}

/** What happened between two readings: rates a second, the median and the 99th percentile of seconds a request. */
export function between(before, now) {
  const seconds = Math.max(1e-3, (now.at - before.at) / 1000);
  const grownOf = (name) =>
    Object.fromEntries(Object.entries(now[name]).map(([key, value]) => [key, grown(before[name][key] ?? 0, value)]));
  const counts = grownCounts(before.seconds.counts, now.seconds.counts);
  const refusals = grownOf("refusals");
  const refused = Object.values(refusals).reduce((sum, count) => sum + count, 0);
  return {
    at: now.at,
    rate: grown(before.requests, now.requests) / seconds,
    refused: refused / seconds,
    refusals,
    images: grownOf("images"),
    queue: now.queue,
    median: quantile(0.5, now.seconds.bounds, counts),
    slow: quantile(0.99, now.seconds.bounds, counts),
    uncertainty: {
      bounds: now.uncertainty.bounds,
      counts: grownCounts(before.uncertainty.counts, now.uncertainty.counts),
    },
  };
}
