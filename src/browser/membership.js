// One room, through all connections to it.

import { randomCid } from './cid.js';
import { ChatError, gaveUp } from './errors.js';
import { Events } from './events.js';
import { objectsIn } from './json.js';
import { OwnState } from './own-state.js';
import { Presence } from './presence.js';
import { Progress } from './progress.js';
import { Retry } from './retry.js';
import { Subscription } from './subscription.js';

/** Refusals of an enter that no later attempt can change. */
const FINAL = new Set(['denied', 'bad_name', 'bad_room_id']);
/** Temporary refusals. */
const TEMPORARY = new Set(['internal', 'rate_limited', 'not_entered', 'unavailable']);
/** If the server says when to enter again, the client adds a random time up to this, in milliseconds, or up to half of
 * the wait if that is longer, no matter how often the server has said so. */
const LONGEST_DELAY = 1_000;
/** Events of the protocol, which applications cannot send. */
const RESERVED = new Set([
  'enter', 'leave', 'out', 'resume', 'heartbeat', 'auth', 'noAuth', 'error',
  'welcome', 'entered', 'left', 'resumed', 'ack', 'expiring', 'lagged', 'authenticated',
  'members', 'presence', 'state', 'direct', 'history',
]);

/** Enters a room and stays in it until it is closed. */
export class Membership {
  #env;
  #options;
  #outbox;
  #on;
  #events = new Events();
  #progress = new Progress();
  #presence;
  #ownState;
  /** When to enter next, while the client is connected but not in the room. */
  #retry;
  /** Messages of this room. */
  #lane;
  /** The room's frames on the current connection; null if the client is not in the room. */
  #subscription = null;
  /** Whether the client may only read, and whether others do not see it, according to the last `entered`. */
  #isReadOnly = false;
  #isHidden = false;
  /** Whether the client is or was in the room on the current connection. */
  #hasEntered = false;
  /** Failed attempts in a row to enter the room. */
  #failures = 0;
  /** `resolve` and `reject` of the promise to enter; null once it is settled. */
  #entering;
  #ended = new AbortController();
  #state = 'connecting';
  #reason = null;

  /**
   * `options` has `id`, `name`, `history`, `state`, `roster`, `on`, `maxQueue`, `maxAttempts` and `backoff`. `on` has
   * these handlers:
   *
   * * `enter()`: the room should be entered now;
   * * `leave()`: the application leaves;
   * * `closed(reason, isRefused)`: the membership ends permanently; `isRefused` says whether the server has ended it;
   * * `disconnectedState(isEntering)`: returns the state while there is no connection;
   * * `retryAt()` and `retries()`: return when the next connection is due, and how many have failed.
   */
  constructor({ env, outbox }, options, on, entering) {
    this.#env = env;
    this.#options = options;
    this.#outbox = outbox;
    this.#on = on;
    this.#entering = entering;
    this.#retry = new Retry(env, options.backoff);
    this.#lane = outbox.open(options.id);
    this.#ownState = new OwnState(env, options.id, options.state);
    this.#presence = new Presence({ env, events: this.#events }, options.roster, {
      member: () => this.#progress.member,
      state: (state) => this.#ownState.shown(state),
    });
    for (const [type, handler] of Object.entries(options.on)) if (handler) this.#events.on(type, handler);
  }

  get id() { return this.#options.id; }
  get state() { return this.#state; }
  get reason() { return this.#reason; }
  get retryAt() { return this.#retry.at ?? this.#on.retryAt(); }
  get progress() { return this.#progress; }
  get presence() { return this.#presence; }
  get events() { return this.#events; }
  get isReadOnly() { return this.#isReadOnly; }
  get isHidden() { return this.#isHidden; }
  /** Whether the application waits for the first enter. */
  get isEntering() { return this.#entering !== null; }
  /** Whether the client is in the room on the current connection. */
  get isInRoom() { return this.#subscription !== null; }
  /** How many times the client has retried since an enter that lasted. */
  get retries() { return this.#retry.count; }
  /** Aborted when the membership is closed. */
  get ended() { return this.#ended.signal; }

  // ---- What the application does ---------------------------------------------------------------

  send(message, { event, extra }) {
    return new Promise((resolve, reject) => {
      if (this.#state === 'closed') {
        return reject(new ChatError('closed', 'the room was left', { cause: this.#reason }));
      }
      if (RESERVED.has(event)) return reject(new ChatError('reserved_event', `"${event}" is an event of the protocol`));
      if (this.#outbox.size(this.#lane) >= this.#options.maxQueue) {
        this.#events.emit('overflow', { event, message });
        return reject(new ChatError('overflow', 'too many messages are waiting to be sent'));
      }
      const cid = randomCid(this.#env.crypto);
      const text = JSON.stringify({ ...extra, event, message, roomId: this.id, cid });
      this.#subscription?.dropTransients();
      const acknowledged = ({ seq, id }) => resolve(id === undefined ? { seq } : { seq, id });
      this.#outbox.add(this.#lane, cid, { event, text }, { resolve: acknowledged, reject });
    });
  }

  /** Asks for messages. The request waits like a message, and is sent again until it is answered, even by a refusal. */
  history(range) {
    return new Promise((resolve, reject) => {
      if (this.#state === 'closed') {
        return reject(new ChatError('closed', 'the room was left', { cause: this.#reason }));
      }
      if (this.#outbox.size(this.#lane) >= this.#options.maxQueue) {
        return reject(new ChatError('overflow', 'too many messages are waiting to be sent'));
      }
      const cid = randomCid(this.#env.crypto);
      const text = JSON.stringify({ event: 'history', roomId: this.id, cid, ...range });
      this.#outbox.add(this.#lane, cid, { event: 'history', text }, { resolve, reject });
    });
  }

  sendTransient(event, message) { return this.#subscription?.sendTransient(event, message) ?? false; }

  /** `state` is JSON. */
  setState(state) {
    this.#ownState.set(state);
    this.#presence.ownStateChanged();
  }

  enter() {
    if (this.#state === 'outside') this.#on.enter();
  }

  leave() {
    if (this.#state !== 'closed') this.#on.leave();
  }

  // ---- What the connection reports -------------------------------------------------------------

  /** The frame to enter with. */
  enterFrame() {
    const { id, name, history } = this.#options;
    const { since } = this.#progress;
    const replay = since ? { since } : history > 0 && { last: history };
    return { event: 'enter', message: name, roomId: id, ...this.#ownState.forEnter(), ...replay };
  }

  /** An enter was sent or is about to be sent. */
  enterStarted() { this.#retry.stop(); }

  /** It is in the room. On the connection, `transmit(text, cid)` sends a message, `transients` sends transient frames,
   * `sendUnanswered(text)` sends other frames that `budget` allows, and `askForPage()` sends the `pageFrame`. */
  entered(answer, { transmit, transients, budget, sendUnanswered, askForPage }) {
    const isAllKnown = this.#outbox.isKnownTo(this.#lane, answer.resumed ? answer.member : null);
    const isFirst = this.#progress.position === null;
    const gap = this.#progress.enter(answer);
    this.#isReadOnly = answer.readOnly === true;
    this.#isHidden = answer.hidden === true;
    const shared = {
      progress: this.#progress, outbox: this.#outbox, lane: this.#lane, events: this.#events, presence: this.#presence,
    };
    const subscription = new Subscription(shared, {
      replayEnd: answer.seq, isAllKnown, history: answer.history ?? 0, isFirst, transmit, transients,
    });
    this.#subscription = subscription;
    this.#presence.entered(answer, askForPage);
    this.#ownState.entered(answer, { send: sendUnanswered, budget });
    this.#hasEntered = true;
    this.#failures = 0;
    const entering = this.#entering;
    this.#entering = null;
    this.#retry.stop();
    if (this.#state !== 'online') {
      this.#retry.succeed();
      this.#become('online', null);
    }
    if (gap) this.#events.emit('gap', gap);
    subscription.receiveStored(objectsIn(answer.messages));
    entering?.resolve();
    subscription.startSending();
  }

  receive(frame) { return this.#subscription?.receive(frame) ?? true; }

  receiveTransient(frame) { this.#subscription?.receiveTransient(frame); }

  lagged(missed) { this.#subscription?.lagged(missed); }

  /** The request for the next page of the roster. */
  pageFrame() { return this.#presence.pageFrame(this.id); }

  page(frame) {
    if (this.isInRoom) this.#presence.page(frame);
  }

  /** The server has refused to send a page of the roster. It may be requested again after `wait` milliseconds. */
  pageRefused(wait) {
    if (this.isInRoom) this.#presence.pageRefused(wait);
  }

  /** Takes a `presence` or `state` frame. */
  receivePresence(frame) {
    if (!this.isInRoom) return;
    if (typeof frame.readOnly === 'boolean') return this.#setReadOnly(frame.readOnly);
    if (frame.event === 'presence') this.#presence.told(frame);
    else this.#presence.memberChanged(frame);
  }

  /** The server has refused a frame that it does not answer otherwise: a state, or a transient frame. */
  frameRefused(error) {
    // Read-only members may have a state too. If it was refused, only the roster says which state is valid.
    if (error.code !== 'read_only' && this.#ownState.refused()) this.#presence.doubt();
    this.#events.emit('error', error);
  }

  unreadable(isOnlyRoom) { this.#subscription?.unreadable(isOnlyRoom); }

  /** The server has refused an enter. `wait` is the time after which to try again; null if the server has not said. */
  refused(error, wait) {
    // If the client was in the room before, the room may be full because of its own lost connection. That is temporary.
    const isTemporary = TEMPORARY.has(error.code) || (this.#progress.position !== null && !FINAL.has(error.code));
    if (!isTemporary && !this.#hasEntered) return this.#close(error, true);
    this.#stayOutside(error, isTemporary ? wait ?? 0 : null);
  }

  /** The server has removed the client from the room. */
  removed(error, wait) {
    if (error.code === 'room_closed') return this.#close(error, true);
    this.#stayOutside(error, TEMPORARY.has(error.code) ? wait ?? 0 : null);
  }

  /** The server accepts nothing else before another token. */
  outside(error) {
    if (!this.isInRoom) this.#becomeOutside(error);
  }

  /** The server will read a token later. */
  postponed(error) {
    if (!this.isInRoom && !this.#failed(error)) this.#becomeOutside(error);
  }

  /** The connection is lost. `isAttempt` says whether this counts as a failed attempt if the client was not in the
   * room. */
  lost(error, isAttempt) {
    const isFailed = isAttempt && !this.#hasEntered;
    this.#drop();
    this.#hasEntered = false;
    if (isFailed && this.#failed(error)) return;
    this.#become(this.#on.disconnectedState(this.isEntering), error);
  }

  /** The browser has reported a change of the network. */
  showNetwork() {
    const state = this.#on.disconnectedState(this.isEntering);
    const isDisconnected = ['connecting', 'reconnecting', 'offline'].includes(this.#state);
    if (isDisconnected && this.#state !== state) this.#become(state, this.#reason);
  }

  /** Ends permanently. */
  end(reason) {
    if (this.#state === 'closed') return;
    this.#presence.end();
    this.#drop();
    this.#ended.abort();
    this.#become('closed', reason);
    const text = `not acknowledged before the end: ${reason.message}`;
    this.#outbox.fail(this.#lane, new ChatError('closed', text, { cause: reason }));
    this.#entering?.reject(reason);
    this.#entering = null;
  }

  // ---- States ----------------------------------------------------------------------------------

  /** Not in the room, but still connected. If `wait` is null, the client enters again only when the application asks.
   * */
  #stayOutside(error, wait) {
    this.#drop();
    if (wait !== null) {
      if (this.#failed(error)) return;
      const longestBackoff = wait > 0 ? LONGEST_DELAY : Infinity;
      this.#retry.arm(() => this.#on.enter(), { wait, minCount: this.#on.retries(), longestBackoff });
    }
    this.#becomeOutside(error);
  }

  /** Counts a failed attempt to enter the room. Returns whether it was the last one. */
  #failed(reason) {
    this.#failures += 1;
    if (this.#failures < this.#options.maxAttempts) return false;
    this.#close(gaveUp(this.#failures, reason), false);
    return true;
  }

  #setReadOnly(isReadOnly) {
    this.#isReadOnly = isReadOnly;
    this.#events.emit('readOnly', isReadOnly);
  }

  #close(reason, isRefused) { this.#on.closed(reason, isRefused); }

  #drop() {
    this.#subscription?.end();
    this.#subscription = null;
    this.#ownState.left();
    this.#presence.left();
    this.#retry.stop();
  }

  #becomeOutside(reason) { this.#become(this.isEntering ? this.#on.disconnectedState(true) : 'outside', reason); }

  #become(state, reason) {
    this.#state = state;
    this.#reason = reason;
    this.#events.emit('state', { state, reason, retryAt: this.retryAt });
  }
}
