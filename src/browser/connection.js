// One attempt to enter the room, and the connection that results from it.

import { Authentication } from './authentication.js';
import { ChatError, CLOSE_LOST, mayReturn } from './errors.js';
import { Membership } from './membership.js';
import { MAX_WAIT, readRetry } from './retry.js';
import { Socket } from './socket.js';

const PROTOCOL = 'chat-rooms.v1';

// Times are milliseconds.
/** Clients spread their return over this time if the server does not say when to come back. */
const RETURN_SPREAD = 1_000;
/** The wait if a server says "later", but not when. */
const DEFAULT_RETRY = 1_000;

/** Close codes that ask for another token: never authenticated, token expired, refused at the upgrade. */
const AUTH_CODES = new Set([4502, 4504, 4505]);
/** Those after which the server reads nothing. */
const UNREAD_TOKEN_CODES = new Set([4504, 4505]);
/** Refusals of an enter that no later attempt can change. */
const FINAL = new Set(['denied', 'bad_name', 'bad_room_id']);
/** Temporary refusals. `unavailable` is reserved: no server sends it yet. */
const TEMPORARY = new Set(['internal', 'rate_limited', 'unavailable']);
/** Refusals of a frame that the server could not read, not even its cid. */
const UNREAD = new Set(['bad_json', 'not_an_object', 'bad_shape', 'too_deep', 'bad_cid']);

/** Opens a socket, authenticates, enters, and handles what the server says. After `close` it reports nothing. */
export class Connection {
  #options;
  #session;
  #tokens;
  #outbox;
  #events;
  #on;
  #socket;
  #auth;
  /** Sent as soon as the socket is open. */
  #firstToken;
  #isOpen = false;
  #isClosed = false;
  #welcome = null;
  /** Null outside of the room. */
  #membership = null;
  #hasEntered = false;

  /**
   * `shared` is what the connections of a room share. `on` has these handlers:
   *
   * * `entering()`: an enter is sent;
   * * `entered(gap)`: the client is in the room;
   * * `outside(error, wait)`: it is not in the room. The connection stays, and should enter again after `wait`
   *   milliseconds; if that is null, only when the application says so;
   * * `postponed(error)`: it is not in the room, and sends a token later;
   * * `lost(error, when)`: the connection is lost; `when` says when to try again, see {@link Retry};
   * * `ended(error)`: it is pointless to try again.
   */
  constructor(shared, timeoutFactor, on) {
    const { env, options, session, tokens, outbox, events } = shared;
    this.#options = options;
    this.#session = session;
    this.#tokens = tokens;
    this.#outbox = outbox;
    this.#events = events;
    this.#on = on;
    this.#socket = new Socket(env, timeoutFactor, {
      opened: (protocol) => this.#opened(protocol),
      frame: (frame) => this.#receive(frame),
      unreadable: () => this.#unreadable(),
      closed: (code, reason) => this.#closed(code, reason),
      dead: () => on.lost(new ChatError('timeout', 'the server did not answer in time', { closeCode: CLOSE_LOST })),
    });
    this.#auth = new Authentication({ env, tokens, events }, {
      send: (frame) => this.#socket.send(frame),
      asking: () => this.#membership ?? this.#expectAnswer(),
      failed: (error) => this.#membership ?? on.ended(error),
    });
  }

  /** Whether it is or was in the room. */
  get hasEntered() { return this.#hasEntered; }

  /** The factor by which the timeouts of the next connection are multiplied. */
  get timeoutFactor() { return this.#socket.timeoutFactor; }

  probe() { this.#socket.probe(); }

  // ---- Opening and closing ---------------------------------------------------------------------

  async open() {
    const { url, protocols } = this.#options;
    this.#expectAnswer();
    let token = this.#tokens.next();
    if (this.#tokens.isFunction) {
      try {
        token = await token;
      } catch (cause) {
        if (!this.#isClosed) this.#on.lost(new ChatError('token', 'the token function failed', { cause }));
        return;
      }
      if (this.#isClosed) return;
    }
    this.#firstToken = token;
    try {
      this.#socket.open(url, [PROTOCOL, ...protocols]);
    } catch (cause) {
      this.#on.ended(new ChatError('bad_url', `no WebSocket can be opened to ${url}: ${cause.message}`, { cause }));
    }
  }

  close(code, reason) {
    this.#isClosed = true;
    this.#socket.close(code, reason);
    this.#auth.end();
    this.#membership?.end();
  }

  #opened(protocol) {
    if (protocol !== PROTOCOL) {
      const text = `the server at ${this.#options.url} does not speak ${PROTOCOL}`;
      return this.#on.ended(new ChatError('protocol', text));
    }
    this.#isOpen = true;
    if (this.#firstToken) this.#auth.send(this.#firstToken);
  }

  #closed(code, reason) {
    if (AUTH_CODES.has(code)) return this.#closedForAuth(code, reason);
    if (!mayReturn(code)) {
      const text = reason || 'the server closed the connection';
      return this.#on.ended(new ChatError('closed', text, { closeCode: code }));
    }
    if (!this.#isOpen && code === 1006) {
      const text = "the server is unreachable or refuses this page; a browser can't tell which";
      return this.#on.lost(new ChatError('unreachable', `no connection to ${this.#options.url}: ${text}`, { closeCode: code }));
    }
    // The others in the room may have lost their connections as well.
    const when = readRetry(reason) ?? { spread: this.hasEntered ? RETURN_SPREAD : 0 };
    this.#on.lost(new ChatError('lost', reason || 'the connection was lost', { closeCode: code }), when);
  }

  /** Another token may help, unless too many were refused. */
  #closedForAuth(code, reason) {
    const { refusal } = this.#auth;
    const error = new ChatError('no_auth', refusal ?? (reason || 'authentication is needed'), { closeCode: code });
    if (refusal === null) this.#tokens.countRefusal();
    if (!this.#tokens.hasAnother) return this.#on.ended(error);
    if (UNREAD_TOKEN_CODES.has(code) && this.#auth.isPending) this.#tokens.repeat();
    this.#on.lost(error, { isImmediate: true });
  }

  // ---- Frames ----------------------------------------------------------------------------------

  #receive(frame) {
    switch (frame.event) {
      case 'heartbeat': if (this.#membership) this.#session.setOnline(frame.num); return;
      case 'welcome': return this.#welcomed(frame);
      case 'entered': return this.#entered(frame);
      case 'authenticated': return this.#authenticated();
      case 'expiring': return this.#auth.expiring(frame.in);
      case 'noAuth': return this.#notAuthenticated(frame);
      case 'error': return this.#refused(frame);
      case 'ack': return this.#acknowledged(frame);
      case 'lagged': return this.#membership?.lagged(frame.missed);
      default:
        // The host sent a frame without a seq to this connection only.
        if (!Number.isInteger(frame.seq)) this.#events.emitFrame(frame, { own: false, replayed: false });
        else if (this.#membership?.receive(frame) === false) {
          this.#on.lost(new ChatError('gap', 'a frame is missing', { closeCode: CLOSE_LOST }));
        }
    }
  }

  #unreadable() {
    this.#events.emit('error', new ChatError('bad_frame', 'the server sent a frame that is not a JSON object'));
    this.#membership?.unreadable();
  }

  // ---- Entering --------------------------------------------------------------------------------

  #welcomed(welcome) {
    if (this.#welcome) return;
    this.#welcome = welcome;
    this.#socket.setHeartbeat(welcome.heartbeat);
    this.enter();
    this.#session.addResumeToken(welcome.resume);
  }

  /** Does nothing while an enter is under way. */
  enter() {
    if (this.#auth.isExpecting('enter')) return;
    const { name, room } = this.#options;
    this.#auth.expect('enter');
    this.#expectAnswer();
    this.#on.entering();
    const resumption = this.#session.resumption(this.#welcome.resume);
    this.#socket.send({ event: 'enter', message: name, roomId: room, ...resumption });
  }

  #entered(answer) {
    this.#auth.entered();
    this.#tokens.resetRefusals();
    this.#socket.expectAnswer(null);
    // The server's token buckets have paid for the enter: from now on, they hold no less than those of the outbox.
    if (!this.#hasEntered) this.#outbox.configure(this.#welcome.limits, this.#welcome.rates);
    this.#hasEntered = true;
    const isAllKnown = this.#outbox.isKnownTo(answer.resumed ? answer.member : null);
    const gap = this.#session.enter(answer, this.#welcome.resume);
    const membership = new Membership({ session: this.#session, outbox: this.#outbox, events: this.#events }, {
      replayEnd: answer.seq, isAllKnown, transmit: (text) => this.#transmit(text),
    });
    this.#membership = membership;
    this.#on.entered(gap);
    membership.startSending();
  }

  #transmit(message) {
    this.#auth.expect('message');
    this.#socket.send(message);
  }

  #acknowledged({ cid, seq }) {
    this.#auth.messageAnswered();
    this.#outbox.acknowledge(cid, seq);
  }

  #refused({ code, message, cid, roomId, retryAfter }) {
    const error = new ChatError(String(code), String(message));
    const wait = retryAfter >= 0 ? Math.min(retryAfter, MAX_WAIT) : null;
    if (cid !== undefined) return this.#messageRefused(cid, error, wait);
    if (this.#auth.isNext && error.code === 'rate_limited') return this.#tokenPostponed(error, wait ?? DEFAULT_RETRY);
    if (this.#auth.isExpecting('enter')) return this.#enterRefused(error, wait);
    if (this.#membership && roomId !== undefined) return this.#removed(error, TEMPORARY.has(error.code), wait);
    if (UNREAD.has(error.code)) {
      this.#auth.messageAnswered();
      if (this.#outbox.rejectOldest(error)) return;
    }
    this.#events.emit('error', error);
  }

  #messageRefused(cid, error, wait) {
    this.#auth.messageAnswered();
    if (error.code === 'not_entered') {
      // It was in flight when the client left the room, and is sent again in the room.
      if (this.#membership) this.#removed(error, true, wait);
    } else if (error.code === 'rate_limited' || (TEMPORARY.has(error.code) && wait !== null)) {
      this.#outbox.postpone(cid, wait ?? DEFAULT_RETRY);
    } else if (!this.#outbox.reject(cid, error)) {
      this.#events.emit('error', error);
    }
  }

  #enterRefused(error, wait) {
    this.#auth.answered('enter');
    // A room that the client was in may be full because of its own lost connection: that is temporary as well.
    const isTemporary = TEMPORARY.has(error.code) || (this.#session.hasEntered && !FINAL.has(error.code));
    if (!isTemporary && !this.hasEntered) return this.#on.ended(error);
    this.#removed(error, isTemporary, wait);
  }

  /** The connection stays, outside of the room. */
  #removed(error, isTemporary, wait) {
    this.#leaveRoom();
    this.#on.outside(error, isTemporary ? wait ?? 0 : null);
  }

  #leaveRoom() {
    this.#membership?.end();
    this.#membership = null;
    this.#socket.expectAnswer(null);
  }

  // ---- Authentication --------------------------------------------------------------------------

  #authenticated() {
    if (this.#auth.accepted() && this.#welcome) this.enter();
  }

  #notAuthenticated({ message, roomId }) {
    const error = new ChatError('no_auth', String(message));
    if (this.#membership && roomId !== undefined) {
      this.#auth.expired(error.message);
      this.#leaveRoom();
    } else if (this.#membership) {
      this.#auth.renewalRefused();
      return this.#events.emit('error', error);
    } else if (!this.#auth.refused(error.message)) {
      return;
    }
    const { isFunction, hasAnother } = this.#tokens;
    if (!hasAnother && (isFunction || !this.hasEntered)) return this.#on.ended(error);
    if (this.hasEntered) this.#on.outside(error, null);
    if (hasAnother && !this.#auth.isExpecting('auth')) this.#auth.renew();
  }

  #tokenPostponed(error, wait) {
    this.#auth.postponed(wait, this.#membership !== null);
    if (this.#membership) return;
    this.#socket.expectAnswer(null);
    this.#on.postponed(error);
  }

  #expectAnswer() { this.#socket.expectAnswer(this.#options.attemptTimeout); }
}
