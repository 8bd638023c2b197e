// A rate limit.

/** Filled continuously. Holds half of the server's capacity, because messages that are sent evenly may arrive in
 * bursts. The other half is a reserve for urgent frames. */
export class TokenBucket {
  #perMs;
  #capacity;
  #reserve;
  #level;
  #filledAt;

  constructor(perSecond, capacity, now) {
    this.#perMs = perSecond / 1000;
    this.#capacity = Math.max(1, capacity / 2);
    this.#reserve = Math.max(0, capacity - this.#capacity);
    this.#level = this.#capacity;
    this.#filledAt = now;
  }

  /** How many milliseconds until this much can be taken. A full bucket lends what exceeds its capacity. */
  wait(amount, now, isUrgent = false) {
    this.#level = Math.min(this.#capacity, this.#level + (now - this.#filledAt) * this.#perMs);
    this.#filledAt = now;
    const missing = Math.min(amount, this.#capacity) - this.#level - (isUrgent ? this.#reserve : 0);
    return missing > 0 ? Math.ceil(missing / this.#perMs) : 0;
  }

  take(amount) { this.#level -= amount; }

  /** Empties the bucket, because the server's is empty. */
  drain(now) {
    this.#filledAt = now;
    this.#level = Math.min(0, this.#level);
    this.#reserve = 0;
  }
}
