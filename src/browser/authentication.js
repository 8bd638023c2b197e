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
  #unanswered;
  #on;
  /** The timer of the next renewal. */
  #timer;
  #refusal = null;
  /** Whether the server has accepted this client: a token, or none. */
  #isGranted = false;
  /** Whether the server refuses everything else until it has accepted a token. */
  #isNeeded = false;
  /** Whether the rooms were already told that the token has expired, before the `noAuth` has arrived. */
  #hasExpired = false;
  #isAsking = false;
  #hasEnded = false;
  #sentAt;

  /** `unanswered` has the requests that the server may answer with `noAuth`. `on` has these handlers: `send(frame)`;
   * `asking()`: the application is asked for a token; `failed(error)`: the application has no other token. */
  constructor({ env, tokens, events, unanswered }, on) {
    this.#env = env;
    this.#tokens = tokens;
    this.#events = events;
    this.#unanswered = unanswered;
    this.#on = on;
    this.#timer = new Timer(env);
    this.#sentAt = this.#now();
  }

  /** The text of the last `noAuth` that asked for a token; null if there was none. */
  get refusal() { return this.#refusal; }

  get isGranted() { return this.#isGranted; }

  get isNeeded() { return this.#isNeeded; }

  /** Whether a token is sent and not answered. */
  get isSent() { return this.#unanswered.has('auth'); }

  /** Whether a token is asked for, or is sent and not answered. */
  get isPending() { return this.#isAsking || this.isSent; }

  send(token) {
    this.#unanswered.add('auth');
    this.#sentAt = this.#now();
    this.#on.send({ event: 'auth', message: token });
  }

  /** The server has accepted a request that it refuses to clients that must authenticate. */
  granted() {
    this.#isGranted = true;
    this.#isNeeded = false;
  }

  /** A token was accepted. Returns whether the server required one, so that refused requests must be sent again. */
  accepted() {
    this.#unanswered.remove('auth');
    const wasNeeded = this.#isNeeded;
    this.granted();
    return wasNeeded;
  }

  /** The token has expired, and the client was removed from a room. A `noAuth` follows that answers nothing. */
  expired() {
    this.#hasExpired = true;
    this.#require(null);
  }

  /**
   * Takes a `noAuth`, and returns what it means:
   *
   * * `renewal`: a token was refused, and the one before is still valid;
   * * `expired`: the token has expired;
   * * `refused`: a token was refused, or there was none;
   * * `repeated`: another request was refused that was sent before a token was accepted.
   *
   * `mayBeOther` if it may be about a frame that has no other answer, and was sent when the last token had not expired
   * yet.
   */
  refused(reason, isInRoom, mayBeOther) {
    const isExpired = this.#hasExpired || (this.#isGranted && !isInRoom && !this.isSent);
    if (isExpired) {
      this.#hasExpired = false;
      this.#tokens.resetRefusals();
      this.#require(reason);
      return 'expired';
    }
    if (this.#isGranted) {
      this.#renewalRefused();
      return 'renewal';
    }
    if (mayBeOther) return 'repeated';
    const kind = this.#unanswered.shift()?.kind;
    if (kind === 'message' || (kind !== undefined && kind !== 'auth' && this.#isNeeded)) return 'repeated';
    this.#tokens.countRefusal();
    this.#require(reason);
    return 'refused';
  }

  /** The server has not read a token. It reads one after `wait` milliseconds. */
  postponed(wait) {
    this.#unanswered.remove('auth');
    if (!this.#isGranted) this.#isNeeded = true;
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

  /** The server accepts nothing else before another token. */
  #require(reason) {
    this.#refusal = reason ?? this.#refusal;
    this.#isGranted = false;
    this.#isNeeded = true;
  }

  #renewalRefused() {
    if (!this.isSent) return;
    this.#unanswered.remove('auth');
    this.#tokens.countRefusal();
    if (this.#tokens.hasAnother) this.#renewIn(TOKEN_RETRY);
  }

  #renewIn(delay) {
    this.#timer.arm(delay, () => this.renew());
  }

  #now() { return this.#env.performance.now(); }
}
