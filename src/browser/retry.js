// When to try again.

import { Timer } from './timer.js';

/** The longest time, in milliseconds, that a server can ask a client to wait. */
export const MAX_WAIT = 3_600_000;
/** A success that lasts longer than this, in milliseconds, resets the backoff. */
const STABLE_AFTER = 10_000;

/** Exponential backoff with full jitter, unless a time is given. Times are milliseconds. */
export class Retry {
  #env;
  #timer;
  #base;
  #cap;
  /** Retries since the last success that lasted. */
  #count = 0;
  /** How often the server has said when to come back, since then. */
  #hints = 0;
  /** When the last attempt succeeded; null if it failed. */
  #succeededAt = null;
  #notBefore = 0;
  #at = null;

  constructor(env, { base = 500, cap = 10_000 } = {}) {
    this.#env = env;
    this.#timer = new Timer(env);
    this.#base = base;
    this.#cap = cap;
  }

  /** When the next attempt is due; null if none is. */
  get at() { return this.#at; }

  /** Whether the next attempt may be made now. False while the server has asked to wait. */
  get mayRunNow() { return this.#now() >= this.#notBefore; }

  /** Retries since the last success that lasted. */
  get count() {
    this.#forget();
    return this.#count;
  }

  /** An attempt has succeeded. A server that lets clients in only to remove them again is tried less and less often. */
  succeed() {
    this.#forget();
    this.#succeededAt = this.#now();
  }

  /** Runs the task after `wait` and a random part of `spread` or of the backoff, whichever is longer. The first
   * retry ignores the backoff if there is a spread. If there is a `wait`, the server has said when to come back: the
   * first time, that replaces the backoff, no matter how many retries there were. The default spread is half of the
   * wait. `minCount` is the least number of retries to assume, `longestBackoff` another limit of the backoff. */
  arm(task, { wait = null, spread = wait / 2, isImmediate = false, minCount = 0, longestBackoff = Infinity } = {}) {
    const now = this.#now();
    this.#count = Math.max(this.count, minCount);
    this.#succeededAt = null;
    const isHint = wait !== null && wait + spread > 0;
    const tries = isHint ? this.#hints : this.#count;
    const backoff = Math.min(this.#cap, this.#base * 2 ** tries, longestBackoff);
    const longest = tries === 0 && wait + spread > 0 ? spread : Math.max(spread, backoff);
    this.#count += 1;
    if (isHint) this.#hints += 1;
    this.#notBefore = now + wait;
    this.#at = isImmediate ? now : now + wait + this.#env.Math.random() * longest;
    this.#timer.arm(this.#at - now, task);
  }

  stop() {
    this.#at = null;
    this.#timer.stop();
  }

  #forget() {
    if (this.#succeededAt === null || this.#now() - this.#succeededAt <= STABLE_AFTER) return;
    this.#count = 0;
    this.#hints = 0;
    this.#succeededAt = null;
  }

  #now() { return this.#env.performance.now(); }
}

/** When to reconnect, according to the reason of a close frame; null if it does not say. */
export function readRetry(reason) {
  const [, from, to] = /retry in (\d+)(?:-(\d+))? s$/.exec(reason) ?? [];
  if (from === undefined) return null;
  const [wait, latest] = [from, to].map((seconds) => Math.min(seconds * 1000, MAX_WAIT));
  return to === undefined ? { wait } : { wait, spread: Math.max(0, latest - wait) };
}
