// Transient frames: hints such as typing, which may get lost.

import { ChatError } from './errors.js';
import { byteLength, wellFormed } from './json.js';
import { RateBudget } from './rate-budget.js';
import { Timer } from './timer.js';

/** The maximum number of bytes of a transient frame. */
const MAX_BYTES = 1024;
/** How many a second, if the server does not say. */
const DEFAULT_RATE = 20;

/** Sends the transient frames of all rooms on one connection, within the server's rate. */
export class Transients {
  #timer;
  /** The events that the server has declared. */
  #declared;
  #budget;
  #send;
  /** What waits for the rate: the newest frame of each room and event, `{ room, text }`. */
  #waiting = new Map();
  #hasEnded = false;

  /** `send(text)` sends a frame. */
  constructor(env, { transient, rates }, send) {
    this.#timer = new Timer(env);
    this.#declared = new Set(Array.isArray(transient) ? transient : []);
    const { transient: messages = DEFAULT_RATE, burst, empty } = rates ?? {};
    this.#budget = new RateBudget(env, { messages, bytes: null, burst, empty });
    this.#send = send;
  }

  isTransient(event) { return this.#declared.has(event); }

  /** Sends a frame as soon as the rate allows, unless a newer one of the same room and event takes its place. Returns
   * false if the connection is closed. */
  add(room, event, message) {
    if (!this.isTransient(event)) {
      throw new ChatError('not_transient', `"${event}" is not one of the server's transient events; use send()`);
    }
    const text = wellFormed(JSON.stringify({ event, message, roomId: room }));
    if (byteLength(text) > MAX_BYTES) {
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
      this.#send(text);
    }
  }
}
