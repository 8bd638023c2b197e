// A connection with its rooms, as the application sees it.

import { Connection } from './connection.js';
import { Directs } from './directs.js';
import { ChatError, CLOSE_LEFT, CLOSE_LOST, CLOSE_NEVER_ENTERED, gaveUp } from './errors.js';
import { Events } from './events.js';
import { Membership } from './membership.js';
import { readDirect, readJoinOptions, readUrl } from './options.js';
import { Outbox } from './outbox.js';
import { Page } from './page.js';
import { Retry } from './retry.js';
import { OnlyRoom, Room } from './room.js';
import { Session } from './session.js';
import { TokenSource } from './token-source.js';

/** Makes connections, one at a time, until it is closed. */
export class Chat {
  /** The clock, the sockets and the page: `globalThis`, or what replaces it in a test. */
  #env;
  #options;
  #events = new Events();
  #session = new Session();
  #tokens;
  #outbox;
  #directs;
  #page;
  /** When to connect next. */
  #retry;
  /** Null between two attempts. */
  #connection = null;
  #timeoutFactor = 1;
  /** Attempts in a row that did not end in a connection. */
  #failures = 0;
  /** The memberships by room id, and the rooms that were entered, by membership. */
  #memberships = new Map();
  #rooms = new Map();
  /** The only membership, if `connect` has entered a room: the membership and the connection end together. */
  #only = null;
  /** `resolve` and `reject` of the promise to open the connection; null once it is settled. */
  #opening;
  #state = 'connecting';
  #reason = null;

  /**
   * `options` are those of the connection. If `connect` enters a room, `room` has the options of that room, and
   * `opening` is settled when the room has been entered; otherwise, when the connection is open.
   */
  constructor(url, { env, on, signal, token, backoff, ...rest }, room, opening) {
    this.#env = env;
    this.#options = { url: readUrl(url, env.location?.href), backoff, ...rest };
    this.#opening = room ? null : opening;
    this.#tokens = new TokenSource(token);
    this.#outbox = new Outbox(env);
    this.#retry = new Retry(env, backoff);
    for (const [type, handler] of Object.entries(on)) if (handler) this.on(type, handler);
    this.#page = new Page(env, {
      network: () => this.#showNetwork(),
      woken: () => this.#wake(),
      left: (isRestorable) => this.#hide(isRestorable),
    });
    if (room) this.#only = this.#add(room, opening);
    this.#directs = new Directs({ env, events: this.#handlers, outbox: this.#outbox }, this.#options.maxQueue);
    const aborted = () => this.#end(abortedBy(signal));
    if (signal?.aborted) return aborted();
    this.#page.listen(signal, 'abort', aborted);
    this.#attempt();
  }

  get state() { return this.#state; }
  get reason() { return this.#reason; }
  get retryAt() { return this.#retry.at; }
  get rooms() { return [...this.#rooms.values()]; }

  on(type, handler) { return this.#events.on(type, handler); }

  join(room, options) {
    return new Promise((resolve, reject) => {
      const { signal, ...read } = readJoinOptions(room, options);
      const { id } = read;
      if (this.#state === 'closed') throw new ChatError('closed', 'the chat was closed', { cause: this.#reason });
      if (this.#memberships.has(id)) {
        throw new ChatError('already_joined', `the room "${id}" was joined already; leave it first`);
      }
      if (signal?.aborted) throw abortedBy(signal);
      const membership = this.#add(read, { resolve, reject });
      const aborted = () => this.#remove(membership, abortedBy(signal), true);
      signal?.addEventListener('abort', aborted, { signal: membership.ended });
      if (!this.#attemptIfIdle()) this.#connection?.enter(id);
    });
  }

  async sendTo(user, message, extra) {
    const { user: id, extra: keys } = readDirect(user, extra);
    if (this.#state === 'closed') throw new ChatError('closed', 'the chat was closed', { cause: this.#reason });
    const sending = this.#directs.send(id, message, keys);
    this.#attemptIfIdle();
    return sending;
  }

  authenticate() { this.#connection?.authenticate(); }

  close() { this.#end(leftBy(CLOSE_LEFT)); }

  // ---- Rooms -----------------------------------------------------------------------------------

  #add(room, { resolve, reject }) {
    const { maxQueue, maxAttempts, backoff } = this.#options;
    const options = { ...room, maxQueue, maxAttempts, backoff };
    const membership = new Membership({ env: this.#env, outbox: this.#outbox }, options, {
      enter: () => this.#connection?.enter(room.id),
      leave: () => this.#remove(membership, leftBy(this.#only ? CLOSE_LEFT : null), true),
      closed: (reason, isRefused) => this.#remove(membership, reason, !isRefused),
      disconnectedState: (isEntering) => this.#disconnectedState(isEntering),
      retryAt: () => this.#retry.at,
      retries: () => this.#retry.count,
    }, {
      resolve: () => {
        this.#rooms.set(membership, this.#only ? new OnlyRoom(membership, this) : new Room(membership));
        resolve(this.#rooms.get(membership));
      },
      reject,
    });
    this.#memberships.set(room.id, membership);
    return membership;
  }

  /** Closes a membership. `isInRoom` says whether the client may be in the room, so that it must leave. */
  #remove(membership, reason, isInRoom) {
    if (membership === this.#only) return this.#end(reason);
    this.#memberships.delete(membership.id);
    this.#rooms.delete(membership);
    // First, because a handler may join the room again.
    if (isInRoom) this.#connection?.leave(membership.id);
    membership.end(reason);
  }

  // ---- Connections -----------------------------------------------------------------------------

  /** The handlers of events that concern no room. */
  get #handlers() { return this.#only?.events ?? this.#events; }

  /** Connects again if the chat is idle. Returns whether it does. */
  #attemptIfIdle() {
    if (this.#state !== 'idle' || this.#connection) return false;
    this.#attempt();
    return true;
  }

  #attempt() {
    this.#retry.stop();
    const shared = {
      env: this.#env, options: this.#options, session: this.#session, tokens: this.#tokens, outbox: this.#outbox,
      events: this.#handlers, rooms: this.#memberships, directs: this.#directs,
    };
    this.#connection = new Connection(shared, this.#timeoutFactor, {
      ready: () => this.#ready(),
      entered: () => this.#retry.succeed(),
      outside: (error, isExpired) => this.#outside(error, isExpired),
      postponed: (error) => this.#postponed(error),
      lost: (error, when) => this.#lost(error, when),
      ended: (error) => this.#end(error),
    });
    this.#connection.open();
  }

  #ready() {
    const opening = this.#opening;
    this.#opening = null;
    this.#failures = 0;
    if (this.#state === 'online') return;
    if (this.#memberships.size === 0) this.#retry.succeed();
    this.#become('online', null);
    opening?.resolve(this);
  }

  #outside(error, isExpired) {
    this.#become('outside', error);
    // If the token has expired, the server has already told each room.
    if (!isExpired) this.#forEach((membership) => membership.outside(error));
  }

  #postponed(error) {
    if (this.#failed(error)) return;
    this.#become(this.#opening ? this.#disconnectedState(true) : 'outside', error);
    this.#forEach((membership) => membership.postponed(error));
  }

  #lost(reason, when) {
    // The server would close each connection in the same way until a room is joined.
    const isUnused = reason.closeCode === CLOSE_NEVER_ENTERED && this.#memberships.size === 0;
    if (!isUnused || this.#opening) return this.#reconnect(reason, when);
    this.#drop(CLOSE_LOST);
    this.#session.forget();
    this.#become('idle', reason);
  }

  /** Drops the connection and tries again. For `when` see {@link Retry}. */
  #reconnect(reason, when, code = CLOSE_LOST) {
    const { isReady } = this.#connection;
    const isAttempt = reason.code !== 'hidden';
    this.#drop(code, reason.message);
    if (!isReady && isAttempt && this.#failed(reason)) return;
    // If all rooms keep refusing the client, it must not start with short waits again.
    const retries = [...this.#memberships.values()].map((membership) => membership.retries);
    const minCount = retries.length > 0 ? Math.min(...retries) : 0;
    const longestBackoff = when?.wait > 0 ? Infinity : this.#session.longestWait(this.#env.performance.now());
    this.#retry.arm(() => this.#attempt(), { ...when, minCount, longestBackoff });
    this.#become(this.#disconnectedState(this.#opening !== null), reason);
    this.#forEach((membership) => membership.lost(reason, isAttempt));
  }

  /** Counts an attempt that did not end in a connection. Returns whether it was the last one. */
  #failed(reason) {
    this.#failures += 1;
    if (this.#failures < this.#options.maxAttempts) return false;
    this.#end(gaveUp(this.#failures, reason));
    return true;
  }

  #end(reason) {
    if (this.#state === 'closed') return;
    this.#drop(CLOSE_LEFT);
    this.#page.close();
    this.#become('closed', reason);
    for (const membership of [...this.#memberships.values()]) membership.end(reason);
    this.#memberships.clear();
    this.#rooms.clear();
    this.#directs.end(new ChatError('closed', `not acknowledged before the end: ${reason.message}`, { cause: reason }));
    this.#opening?.reject(reason);
    this.#opening = null;
  }

  #drop(code, text = '') {
    this.#connection?.close(code, text);
    this.#timeoutFactor = this.#connection?.timeoutFactor ?? this.#timeoutFactor;
    this.#connection = null;
    this.#outbox.disconnect();
    this.#retry.stop();
  }

  // ---- The page --------------------------------------------------------------------------------

  /** The network may work again, or the page may be visible again. */
  #wake() {
    if (this.#connection) this.#connection.probe();
    else if (this.#state !== 'idle' && this.#retry.mayRunNow) this.#attempt();
  }

  /** Keeps the session for the resume window if the browser may restore the page. */
  #hide(isRestorable) {
    if (!this.#connection) return;
    this.#reconnect(new ChatError('hidden', 'the page was left'), {}, isRestorable ? CLOSE_LOST : CLOSE_LEFT);
  }

  #showNetwork() {
    const state = this.#disconnectedState(this.#opening !== null);
    const isDisconnected = ['connecting', 'reconnecting', 'offline'].includes(this.#state);
    if (isDisconnected && this.#state !== state) this.#become(state, this.#reason);
    this.#forEach((membership) => membership.showNetwork());
  }

  // ---- States ----------------------------------------------------------------------------------

  /** The state of the chat or of a room without a connection. */
  #disconnectedState(isFirst) {
    if (this.#page.isOffline) return 'offline';
    return isFirst ? 'connecting' : 'reconnecting';
  }

  #become(state, reason) {
    this.#state = state;
    this.#reason = reason;
    this.#events.emit('state', { state, reason, retryAt: this.retryAt });
  }

  /** Calls `tell` for each room, except for those that a handler closes meanwhile. */
  #forEach(tell) {
    for (const membership of [...this.#memberships.values()]) {
      if (this.#memberships.get(membership.id) === membership) tell(membership);
    }
  }
}

function leftBy(closeCode) { return new ChatError('left', 'left by the application', { closeCode }); }

function abortedBy({ reason }) { return new ChatError('aborted', 'aborted by the application', { cause: reason }); }
