// How much the client may send on one connection.

import { TokenBucket } from './token-bucket.js';

/** The assumed rate limits of a server that does not announce them. */
const DEFAULT_RATES = { messages: 100, bytes: 262_144, burst: 2 };

/** The token buckets of a connection, for frames of all rooms. */
export class RateBudget {
  #env;
  /** The buckets, each with a function from a frame's size to its cost. */
  #buckets;

  /** `rates` is what the server announces. A rate that is null means none. */
  constructor(env, rates) {
    this.#env = env;
    const { messages, bytes, burst = DEFAULT_RATES.burst, empty } = rates ?? DEFAULT_RATES;
    const bucket = (rate) => (rate > 0 ? new TokenBucket(rate, rate * burst, this.#now()) : null);
    this.#buckets = [[bucket(messages), () => 1], [bucket(bytes), (size) => size]].filter(([it]) => it);
    if (empty) this.drain();
  }

  get isUnlimited() { return this.#buckets.length === 0; }

  /** How many milliseconds until a frame of this many bytes may be sent. An urgent one may use the whole burst. */
  wait(size, { isUrgent = false } = {}) {
    return Math.max(0, ...this.#buckets.map(([bucket, cost]) => bucket.wait(cost(size), this.#now(), isUrgent)));
  }

  take(size) {
    for (const [bucket, cost] of this.#buckets) bucket.take(cost(size));
  }

  /** Empties the buckets, because the server has refused a frame. */
  drain() {
    for (const [bucket] of this.#buckets) bucket.drain(this.#now());
  }

  #now() { return this.#env.performance.now(); }
}
