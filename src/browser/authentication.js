// The tokens of one connection.

import { ChatError } from './errors.js';
import { MAX_WAIT } from './retry.js';
import { Timer } from './timer.js';

// Times are milliseconds.
/** A token function that failed is asked again after this time, and so is one whose renewed token was refused. */
const TOKEN_RETRY = 5_000;
/** The shortest time between two tokens, however short their lifetimes. */
const TOKEN_PAUSE = 1_000;

/** Sends tokens, renews them before they expire, and replaces refused ones. */
export class Authentication {
  #env;
  #tokens;
  #events;
  #on;
  /** Of the next renewal. */
  #timer;
  /** What the server may still answer with `noAuth`, oldest first: 'auth', 'enter', 'message'. */
  #unanswered = [];
  #refusal = null;
  /** Whether the server refuses everything else until it has accepted a token. */
  #isNeeded = false;
  #isAsking = false;
  #hasEnded = false;
  #sentAt;

  /** `on` has these handlers: `send(frame)`; `asking()`, the application is asked for a token; `failed(error)`, it has
   * none any more. */
  constructor({ env, tokens, events }, on) {
    this.#env = env;
    this.#tokens = tokens;
    this.#events = events;
    this.#on = on;
    this.#timer = new Timer(env);
    this.#sentAt = this.#now();
  }

  /** The text of the last `noAuth`; null if there was none. */
  get refusal() { return this.#refusal; }

  /** Whether a token is asked for, or is sent and not answered. */
  get isPending() { return this.#isAsking || this.isExpecting('auth'); }

  send(token) {
    this.expect('auth');
    this.#sentAt = this.#now();
    this.#on.send({ event: 'auth', message: token });
  }

  /** Notes that the server may answer this with `noAuth`. */
  expect(what) { this.#unanswered.push(what); }

  isExpecting(what) { return this.#unanswered.includes(what); }

  /** Whether the next refusal that names no message is the answer to a token. */
  get isNext() { return this.#unanswered.find((what) => what !== 'message') === 'auth'; }

  /** The server answers in order: with this, what was sent before it is answered too. */
  answered(what) {
    this.#unanswered.splice(0, this.#unanswered.indexOf(what) + 1);
  }

  /** One message is answered. It may have been resolved before, by a frame of the room. */
  messageAnswered() {
    const index = this.#unanswered.indexOf('message');
    if (index >= 0) this.#unanswered.splice(index, 1);
  }

  /** The client is in the room. */
  entered() {
    this.answered('enter');
    this.#isNeeded = false;
  }

  /** A token was accepted. Returns whether an enter has to follow. */
  accepted() {
    this.answered('auth');
    const wasNeeded = this.#isNeeded;
    this.#isNeeded = false;
    return wasNeeded;
  }

  /** A `noAuth` has come outside of the room. Returns false if it only refuses what was sent without a token. */
  refused(reason) {
    const what = this.#unanswered.shift();
    if (what === 'message' || (what === 'enter' && this.#isNeeded)) return false;
    this.#tokens.countRefusal();
    this.#require(reason);
    return true;
  }

  /** The token has expired. This answers nothing, and no token was refused. */
  expired(reason) {
    this.#tokens.resetRefusals();
    this.#require(reason);
  }

  /** A token was refused in the room. The old one is still valid. */
  renewalRefused() {
    this.answered('auth');
    this.#tokens.countRefusal();
    if (this.#tokens.hasAnother) this.#renewIn(TOKEN_RETRY);
  }

  /** The server has not read a token. It takes one after `wait` milliseconds. */
  postponed(wait, isInRoom) {
    this.answered('auth');
    if (!isInRoom) this.#isNeeded = true;
    this.#renewIn(wait);
  }

  /** The token expires in this many milliseconds. */
  expiring(left) {
    if (!this.#tokens.isFunction) return;
    // A token that lives no longer than the warning is warned of as soon as it is accepted.
    const used = this.#now() - this.#sentAt;
    this.#renewIn(Math.max(0, TOKEN_PAUSE - used, Math.min(left / 2, MAX_WAIT) - used));
  }

  /** Asks for a fresh token and sends it. */
  async renew() {
    if (this.#isAsking || this.#hasEnded) return;
    this.#isAsking = true;
    this.#on.asking();
    let token;
    let error = null;
    try {
      token = await this.#tokens.next();
    } catch (cause) {
      error = new ChatError('token', 'the token function failed', { cause });
    }
    if (this.#hasEnded) return;
    this.#isAsking = false;
    if (error) {
      this.#renewIn(TOKEN_RETRY);
      this.#events.emit('error', error);
    } else if (token) {
      this.send(token);
    } else {
      this.#on.failed(new ChatError('no_auth', this.#refusal));
    }
  }

  end() {
    this.#hasEnded = true;
    this.#timer.stop();
  }

  /** Nothing else is accepted before another token. */
  #require(reason) {
    this.#refusal = reason;
    this.#isNeeded = true;
  }

  #renewIn(delay) {
    this.#timer.arm(delay, () => this.renew());
  }

  #now() { return this.#env.performance.now(); }
}
