// Messages that are not acknowledged yet.

import { ChatError } from './errors.js';
import { Timer } from './timer.js';
import { TokenBucket } from './token-bucket.js';

/** The server's rate limits, if it does not announce them. */
const DEFAULT_RATES = { messages: 100, bytes: 262_144, burst: 2 };
/** Messages in flight on a connection that has not shown yet that the server accepts more. */
const FIRST_WINDOW = 16;

/** Keeps messages until they are acknowledged. Sends them in order, each once on a connection, and within the
 * server's rate limits. */
export class Outbox {
  #env;
  #timer;
  /** By cid, in order: `{ text, bytes, isSent, member, resolve, reject }`. `member` is the member id under which
   * the message was sent last. */
  #messages = new Map();
  /** Sends a text; null while nothing may be sent. */
  #transmit = null;
  #member = null;
  #maxBytes = Infinity;
  #maxInFlight = Infinity;
  #buckets = [];
  #notBefore = 0;
  /** How many messages may be in flight. After a refusal only the refused one, so that none overtakes it, then one
   * more with each that is accepted. */
  #window = FIRST_WINDOW;

  constructor(env) {
    this.#env = env;
    this.#timer = new Timer(env);
  }

  get size() { return this.#messages.size; }

  /** How many messages are sent and not answered. */
  get #inFlight() { return [...this.#messages.values()].filter(({ isSent }) => isSent).length; }

  /** Whether the session of this member remembers every message here that was ever sent. */
  isKnownTo(session) {
    return [...this.#messages.values()].every(({ member }) => member === null || member === session);
  }

  add(cid, text, { resolve, reject }) {
    const bytes = new TextEncoder().encode(text).length;
    if (bytes > this.#maxBytes) return reject(tooBig());
    this.#messages.set(cid, { text, bytes, isSent: false, member: null, resolve, reject });
    this.#flush();
  }

  /** A connection has entered for the first time: takes the limits of its server. A rate or limit that is null means
   * none. */
  configure(limits, rates) {
    this.#maxBytes = limits?.messageBytes ?? Infinity;
    this.#maxInFlight = limits?.cids ?? Infinity;
    const { messages, bytes, burst = DEFAULT_RATES.burst, empty } = rates ?? DEFAULT_RATES;
    const now = this.#now();
    const bucket = (rate) => (rate > 0 ? new TokenBucket(rate, rate * burst, now) : null);
    this.#buckets = [[bucket(messages), () => 1], [bucket(bytes), (message) => message.bytes]].filter(([it]) => it);
    if (empty) this.#drain(now);
    // If the server knows better, it must not have to refuse many at the same time.
    this.#window = this.#buckets.length > 0 ? Math.min(this.#window, FIRST_WINDOW) : Infinity;
  }

  start(transmit, member) {
    this.#transmit = transmit;
    this.#member = member;
    this.#flush();
  }

  stop() {
    this.#transmit = null;
    this.#timer.stop();
    for (const message of this.#messages.values()) message.isSent = false;
  }

  acknowledge(cid, seq) {
    const message = this.#take(cid);
    message?.resolve({ seq });
    if (message) this.#window += 1;
    this.#flush();
    return Boolean(message);
  }

  reject(cid, error) {
    const message = this.#take(cid);
    message?.reject(error);
    this.#flush();
    return Boolean(message);
  }

  /** Messages are answered in order: one that could not be read is the oldest in flight. */
  rejectOldest(error) {
    const [cid] = [...this.#messages].find(([, { isSent }]) => isSent) ?? [];
    return cid !== undefined && this.reject(cid, error);
  }

  /** The server accepts this message later. Until then nothing is sent. */
  postpone(cid, wait) {
    const message = this.#messages.get(cid);
    if (!message) return;
    message.isSent = false;
    const now = this.#now();
    this.#notBefore = Math.max(this.#notBefore, now + wait);
    this.#window = 1;
    this.#drain(now);
    this.#flush();
  }

  fail(error) {
    for (const { reject } of this.#messages.values()) reject(error);
    this.#messages.clear();
  }

  #drain(now) {
    for (const [bucket] of this.#buckets) bucket.drain(now);
  }

  #take(cid) {
    const message = this.#messages.get(cid);
    this.#messages.delete(cid);
    return message;
  }

  #flush() {
    if (!this.#transmit) return;
    const now = this.#now();
    let free = Math.min(this.#window, this.#maxInFlight) - this.#inFlight;
    for (const [cid, message] of this.#messages) {
      if (message.bytes > this.#maxBytes) {
        this.#take(cid).reject(tooBig()); // This server accepts less than the last one.
        continue;
      }
      if (message.isSent) continue;
      if (free <= 0) return;
      const waits = this.#buckets.map(([bucket, cost]) => bucket.wait(cost(message), now));
      const wait = Math.max(this.#notBefore - now, ...waits);
      if (wait > 0) return this.#timer.arm(wait, () => this.#flush());
      for (const [bucket, cost] of this.#buckets) bucket.take(cost(message));
      free -= 1;
      Object.assign(message, { isSent: true, member: this.#member });
      this.#transmit(message.text);
    }
  }

  #now() { return this.#env.performance.now(); }
}

function tooBig() {
  return new ChatError('too_big', 'the message is bigger than the server takes');
}
