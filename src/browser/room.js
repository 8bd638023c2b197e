// What the application uses: a room, through all connections to it.

import { Connection } from './connection.js';
import { ChatError, CLOSE_LEFT, CLOSE_LOST } from './errors.js';
import { Events } from './events.js';
import { readOptions, readSendOptions, readUrl } from './options.js';
import { Outbox } from './outbox.js';
import { Page } from './page.js';
import { Retry } from './retry.js';
import { Session } from './session.js';
import { TokenSource } from './token-source.js';

/** Events of the protocol, which applications cannot send. */
const RESERVED = new Set([
  'enter', 'out', 'heartbeat', 'auth', 'noAuth', 'error',
  'welcome', 'entered', 'ack', 'expiring', 'lagged', 'authenticated',
]);

/** Makes connections, one at a time, until the room is left. */
export class Room {
  /** The clock, the sockets and the page: `globalThis`, or what replaces it in a test. */
  #env;
  #options;
  #events = new Events();
  #session = new Session();
  #tokens;
  #outbox;
  #page;
  /** Of the next attempt, or of the next enter on a connection that is outside of the room. */
  #retry;
  /** Null between two attempts. */
  #connection = null;
  #timeoutFactor = 1;
  /** Attempts in a row that did not end in the room. */
  #failures = 0;
  /** `resolve` and `reject` of the promise of `connect`; null once it is settled. */
  #entering;
  #state = 'connecting';
  #reason = null;

  constructor(url, options, entering) {
    const { env, on, signal, token, backoff, ...rest } = readOptions(options);
    this.#env = env;
    this.#options = { url: readUrl(url, env.location?.href), ...rest };
    this.#entering = entering;
    this.#tokens = new TokenSource(token);
    this.#outbox = new Outbox(env);
    this.#retry = new Retry(env, backoff);
    for (const [type, handler] of Object.entries(on)) if (handler) this.on(type, handler);
    this.#page = new Page(env, {
      network: () => this.#showNetwork(),
      woken: () => this.#wake(),
      left: (isRestorable) => this.#hide(isRestorable),
    });
    const aborted = () => this.#end(new ChatError('aborted', 'aborted by the application', { cause: signal.reason }));
    if (signal?.aborted) return aborted();
    this.#page.listen(signal, 'abort', aborted);
    this.#attempt();
  }

  get state() { return this.#state; }
  get reason() { return this.#reason; }
  get retryAt() { return this.#retry.at; }
  get online() { return this.#session.online; }
  get name() { return this.#session.name; }
  get member() { return this.#session.member; }
  get position() { return this.#session.position; }

  on(type, handler) { return this.#events.on(type, handler); }

  send(message, options) {
    return new Promise((resolve, reject) => {
      const { event, extra } = readSendOptions(options);
      if (this.#state === 'closed') {
        return reject(new ChatError('closed', 'the room was left', { cause: this.#reason }));
      }
      if (RESERVED.has(event)) return reject(new ChatError('reserved_event', `"${event}" is an event of the protocol`));
      if (this.#outbox.size >= this.#options.maxQueue) {
        this.#events.emit('overflow', { event, message });
        return reject(new ChatError('overflow', 'too many messages are waiting to be sent'));
      }
      const cid = randomId(this.#env.crypto);
      this.#outbox.add(cid, JSON.stringify({ ...extra, event, message, cid }), { resolve, reject });
    });
  }

  enter() {
    if (this.#state === 'outside') this.#connection.enter();
  }

  leave() {
    this.#end(new ChatError('left', 'left by the application', { closeCode: CLOSE_LEFT }));
  }

  // ---- Connections -----------------------------------------------------------------------------

  #attempt() {
    this.#retry.stop();
    const shared = {
      env: this.#env, options: this.#options, session: this.#session,
      tokens: this.#tokens, outbox: this.#outbox, events: this.#events,
    };
    this.#connection = new Connection(shared, this.#timeoutFactor, {
      entering: () => this.#retry.stop(),
      entered: (gap) => this.#entered(gap),
      outside: (error, wait) => this.#outside(error, wait),
      postponed: (error) => this.#failed(error) || this.#becomeOutside(error),
      lost: (error, when) => this.#reconnect(error, when),
      ended: (error) => this.#end(error),
    });
    this.#connection.open();
  }

  #entered(gap) {
    const entering = this.#entering;
    this.#entering = null;
    this.#failures = 0;
    if (this.#state !== 'online') {
      this.#retry.succeed();
      this.#become('online', null);
    }
    if (gap) this.#events.emit('gap', gap);
    entering?.resolve(this);
  }

  #outside(error, wait) {
    if (wait !== null) {
      if (this.#failed(error)) return;
      this.#retry.arm(() => this.#connection.enter(), { wait });
    }
    this.#becomeOutside(error);
  }

  /** Drops the connection and tries again. For `when` see {@link Retry}. */
  #reconnect(reason, when, code = CLOSE_LOST) {
    const { hasEntered } = this.#connection;
    this.#drop(code, reason.message);
    if (!hasEntered && reason.code !== 'hidden' && this.#failed(reason)) return;
    this.#retry.arm(() => this.#attempt(), when);
    this.#become(this.#awayState(), reason);
  }

  /** Counts an attempt that did not end in the room. Returns whether it was the last one. */
  #failed(reason) {
    this.#failures += 1;
    if (this.#failures < this.#options.maxAttempts) return false;
    const text = `gave up after ${this.#failures} attempts: ${reason.message}`;
    this.#end(new ChatError('gave_up', text, { closeCode: reason.closeCode, cause: reason }));
    return true;
  }

  #end(reason) {
    if (this.#state === 'closed') return;
    this.#drop(CLOSE_LEFT);
    this.#page.close();
    this.#become('closed', reason);
    this.#outbox.fail(new ChatError('closed', `not acknowledged before the end: ${reason.message}`, { cause: reason }));
    this.#entering?.reject(reason);
    this.#entering = null;
  }

  #drop(code, text = '') {
    this.#connection?.close(code, text);
    this.#timeoutFactor = this.#connection?.timeoutFactor ?? this.#timeoutFactor;
    this.#connection = null;
    this.#retry.stop();
  }

  // ---- The page --------------------------------------------------------------------------------

  /** The network or the page may be back. */
  #wake() {
    if (this.#connection) this.#connection.probe();
    else if (this.#retry.mayRunNow) this.#attempt();
  }

  /** The session of a page that the browser may restore is kept for the resume window. */
  #hide(isRestorable) {
    if (!this.#connection) return;
    this.#reconnect(new ChatError('hidden', 'the page was left'), {}, isRestorable ? CLOSE_LOST : CLOSE_LEFT);
  }

  #showNetwork() {
    const isAway = ['connecting', 'reconnecting', 'offline'].includes(this.#state);
    if (isAway && this.#state !== this.#awayState()) this.#become(this.#awayState(), this.#reason);
  }

  #awayState() {
    if (this.#page.isOffline) return 'offline';
    return this.#entering ? 'connecting' : 'reconnecting';
  }

  /** There is a connection, but it is not in the room. */
  #becomeOutside(reason) { this.#become(this.#entering ? this.#awayState() : 'outside', reason); }

  #become(state, reason) {
    this.#state = state;
    this.#reason = reason;
    this.#events.emit('state', { state, reason, retryAt: this.retryAt });
  }
}

/** 96 random bits: others must not be able to guess and use a cid before its message is in the room. */
function randomId(crypto) {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
