// Transient frames: hints such as typing, which may get lost.

import { ChatError } from './errors.js';
import { RateBudget } from './rate-budget.js';
import { Timer } from './timer.js';

/** The maximum number of bytes of a transient frame. */
const MAX_BYTES = 1024;
/** How many a second, if the server does not say. */
const DEFAULT_RATE = 20;
/** The server refuses a transient frame within so many milliseconds, if at all. */
const ANSWERED_WITHIN = 10_000;

/** Sends the transient frames of all rooms on one connection, within the server's rate. */
export class Transients {
  #env;
  #timer;
  /** The events that the server has declared. */
  #declared;
  #budget;
  #send;
  /** What waits for the rate: the newest frame of each room and event, `{ room, text }`. */
  #waiting = new Map();
  #sentAt = -Infinity;
  #hasEnded = false;

  /** `send(text)` sends a frame. */
  constructor(env, { transient, rates }, send) {
    this.#env = env;
    this.#timer = new Timer(env);
    this.#declared = new Set(Array.isArray(transient) ? transient : []);
    const { transient: messages = DEFAULT_RATE, burst, empty } = rates ?? {};
    this.#budget = new RateBudget(env, { messages, bytes: null, burst, empty });
    this.#send = send;
  }

  /** Whether an answer that names nothing may be about a transient frame. */
  get mayBeAnswered() { return this.#env.performance.now() - this.#sentAt < ANSWERED_WITHIN; }

  isTransient(event) { return this.#declared.has(event); }

  /** Sends a frame as soon as the rate allows, unless a newer one of the same room and event takes its place. Returns
   * false if the connection is closed. */
  add(room, event, message) {
    if (!this.isTransient(event)) {
      throw new ChatError('not_transient', `"${event}" is not one of the server's transient events; use send()`);
    }
    const text = wellFormed(JSON.stringify({ event, message, roomId: room }));
    if (new TextEncoder().encode(text).length > MAX_BYTES) {
      throw new ChatError('too_big', `a transient frame may have at most ${MAX_BYTES} bytes`);
    }
    if (this.#hasEnded) return false;
    // A frame that is replaced keeps its place, so that each room gets its turn.
    this.#waiting.set(JSON.stringify([room, event]), { room, text });
    this.#flush();
    return true;
  }

  /** Drops what waits for a room. */
  drop(room) {
    for (const [key, waiting] of this.#waiting) if (waiting.room === room) this.#waiting.delete(key);
    if (this.#waiting.size === 0) this.#timer.stop();
  }

  stop() {
    this.#hasEnded = true;
    this.#waiting.clear();
    this.#timer.stop();
  }

  #flush() {
    this.#timer.stop();
    for (const [key, { text }] of this.#waiting) {
      const wait = this.#budget.wait(0);
      if (wait > 0) return this.#timer.arm(wait, () => this.#flush());
      this.#budget.take(0);
      this.#waiting.delete(key);
      this.#sentAt = this.#env.performance.now();
      this.#send(text);
    }
  }
}

/** Replaces lone surrogates in JSON. The server could not read the frame, and its error would be taken for the answer
 * to another one. */
function wellFormed(json) {
  return json.replace(/\\(?:ud[89a-f]..|.)/g, (escape) => (escape.length === 6 ? '\ufffd' : escape));
}
