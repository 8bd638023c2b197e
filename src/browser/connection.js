// One attempt to connect, and the connection that results from it.

import { Authentication } from './authentication.js';
import { ChatError, CLOSE_LOST, mayReturn } from './errors.js';
import { RateBudget } from './rate-budget.js';
import { MAX_WAIT, readRetry } from './retry.js';
import { RoomRequests } from './room-requests.js';
import { Socket } from './socket.js';
import { Transients } from './transients.js';
import { Unanswered } from './unanswered.js';

const PROTOCOL = 'chat-rooms.v1';

// Times are milliseconds.
/** Clients spread their reconnection over this time if the server does not say when to reconnect. */
const RETURN_SPREAD = 1_000;
/** The wait if a server says "later", but not when. */
const DEFAULT_RETRY = 1_000;

/** Close codes that ask for another token: never authenticated, token expired, refused at the upgrade. */
const AUTH_CODES = new Set([4502, 4504, 4505]);
/** Those that mean that the server has not read a pending token. */
const UNREAD_TOKEN_CODES = new Set([4504, 4505]);
/** Refusals of a message that are temporary if the server says when to try again. `unavailable` is reserved: no server
 * sends it yet. */
const PASSING = new Set(['internal', 'unavailable']);
/** The info for frames that the host sends to this connection only. */
const FROM_HOST = Object.freeze({ own: false, replayed: false, history: false });
/** The events that a server may send before its welcome, besides heartbeats. */
const BEFORE_WELCOME = new Set(['welcome', 'authenticated', 'noAuth', 'error']);
/** Refusals of a frame that the server could not read, so that the error has no cid. */
const UNREAD = new Set(['bad_json', 'not_an_object', 'bad_shape', 'too_deep']);

/** Opens a socket, authenticates, enters the rooms, and handles what the server says. After `close` it reports
 * nothing. */
export class Connection {
  #options;
  #session;
  #tokens;
  #outbox;
  #events;
  /** The memberships by room id. */
  #rooms;
  #env;
  #on;
  #socket;
  #auth;
  #unanswered = new Unanswered();
  /** Null before the welcome. */
  #requests = null;
  #transients = null;
  /** Sent as soon as the socket is open. */
  #firstToken;
  #isOpen = false;
  #isClosed = false;
  #welcome = null;
  #isReady = false;
  /** Whether the server has to answer within a time. */
  #isExpecting = false;

  /**
   * `shared` is what the connections of a chat share. `on` has these handlers:
   *
   * * `ready()`: the server has accepted the client, for the first time or again;
   * * `entered()`: the client is in a room for the first time on this connection;
   * * `outside(error, isExpired)`: the server accepts nothing else before another token;
   * * `postponed(error)`: as `outside`, but a token is sent later;
   * * `lost(error, when)`: the connection is lost; `when` says when to try again, see {@link Retry};
   * * `ended(error)`: it is pointless to try again.
   */
  constructor(shared, timeoutFactor, on) {
    const { env, options, session, tokens, outbox, events, rooms } = shared;
    this.#env = env;
    this.#options = options;
    this.#session = session;
    this.#tokens = tokens;
    this.#outbox = outbox;
    this.#events = events;
    this.#rooms = rooms;
    this.#on = on;
    this.#socket = new Socket(env, timeoutFactor, {
      opened: (protocol) => this.#opened(protocol),
      frame: (frame) => this.#receive(frame),
      unreadable: () => this.#unreadable(),
      closed: (code, reason) => this.#closed(code, reason),
      dead: () => on.lost(new ChatError('timeout', 'the server did not answer in time', { closeCode: CLOSE_LOST })),
    });
    this.#auth = new Authentication({ env, tokens, events, unanswered: this.#unanswered }, {
      send: (frame) => this.#socket.send(frame),
      asking: () => this.#auth.isGranted || this.#expectAnswer(),
      failed: (error) => this.#auth.isGranted || on.ended(error),
    });
  }

  /** Whether the server has ever accepted the client on this connection. */
  get isReady() { return this.#isReady; }

  /** The factor by which the timeouts of the next connection are multiplied. */
  get timeoutFactor() { return this.#socket.timeoutFactor; }

  /** Whether the client is or was in a room on this connection. */
  get #hasEntered() { return this.#requests?.hasEntered ?? false; }

  get #isInRoom() { return [...this.#rooms.values()].some(({ isInRoom }) => isInRoom); }

  probe() { this.#socket.probe(); }

  /** Enters this room. Before the welcome this does nothing, because all rooms are entered then. */
  enter(id) { this.#requests?.enter(id); }

  /** Leaves this room. Before the welcome this does nothing: if the session is resumed, `resumed` lists the room, and
   * the client leaves it then. */
  leave(id) { this.#requests?.leave(id); }

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
    this.#requests?.stop();
    this.#transients?.stop();
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
      const where = `no connection to ${this.#options.url}`;
      return this.#on.lost(new ChatError('unreachable', `${where}: ${text}`, { closeCode: code }));
    }
    // The others in the room may have lost their connections as well.
    const when = readRetry(reason) ?? { spread: this.#hasEntered ? RETURN_SPREAD : 0 };
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
    // Only a refused token may come before the welcome.
    if (!this.#welcome && !BEFORE_WELCOME.has(frame.event)) return;
    switch (frame.event) {
      case 'heartbeat': return frame.message === 'pong' ? this.#ponged() : undefined;
      case 'welcome': return this.#welcomed(frame);
      case 'resumed': return this.#requests.resumed(frame);
      case 'entered': return this.#requests.entered(frame);
      case 'left': return this.#requests.left(frame, readWait(frame.retryAfter));
      case 'authenticated': return this.#authenticated();
      case 'expiring': return this.#auth.expiring(frame.in);
      case 'noAuth': return this.#notAuthenticated(frame);
      case 'error': return this.#refused(frame);
      case 'ack': return this.#acknowledged(frame);
      case 'lagged': return this.#rooms.get(frame.roomId)?.lagged(frame.missed);
      default: return this.#receiveOther(frame);
    }
  }

  /** Takes a frame of a room, or one that the host sent to this connection only. */
  #receiveOther(frame) {
    const { event, roomId, member, seq } = frame;
    if (Number.isInteger(seq)) {
      if (this.#rooms.get(roomId)?.receive(frame) !== false) return;
      this.#on.lost(new ChatError('gap', 'a frame is missing', { closeCode: CLOSE_LOST }));
    } else if (roomId !== undefined && (member !== undefined || this.#transients.isTransient(event))) {
      this.#rooms.get(roomId)?.receiveTransient(frame);
    } else {
      this.#events.emitFrame(frame, FROM_HOST);
    }
  }

  #unreadable() {
    this.#events.emit('error', new ChatError('bad_frame', 'the server sent a frame that is not a JSON object'));
    for (const membership of [...this.#rooms.values()]) membership.unreadable(this.#rooms.size === 1);
  }

  #welcomed(welcome) {
    if (this.#welcome) return;
    this.#welcome = welcome;
    this.#socket.setHeartbeat(welcome.heartbeat);
    const budget = new RateBudget(this.#env, welcome.rates);
    const transients = new Transients(this.#env, welcome, (text) => this.#socket.send(text));
    this.#transients = transients;
    this.#outbox.configure(welcome.limits, budget, (event) => transients.isTransient(event));
    const shared = {
      env: this.#env, budget, transients,
      rooms: this.#rooms, session: this.#session, auth: this.#auth, unanswered: this.#unanswered,
    };
    this.#requests = new RoomRequests(shared, welcome.resume, {
      send: (text) => this.#socket.send(text),
      transmit: (text, cid) => this.#transmit(text, cid),
      asked: () => this.#expectAnswer(),
      answered: () => this.#noteAnswer(),
      accepted: () => this.#accepted(),
      entered: () => this.#on.entered(),
    });
    this.#requests.enterAll();
    // A server without authentication ignores the token, but answers a ping.
    if (this.#auth.isSent) this.#requests.pingUnlessAsked();
    else this.#becomeReady();
    this.#noteAnswer();
  }


  // ---- Messages and refusals -------------------------------------------------------------------

  #transmit(text, cid) {
    this.#unanswered.add('message', cid);
    this.#socket.send(text);
  }

  #acknowledged({ cid, seq }) {
    this.#unanswered.remove('message', cid);
    this.#outbox.acknowledge(cid, seq);
  }

  #refused({ code, message, cid, roomId, retryAfter }) {
    const error = new ChatError(String(code), String(message));
    const wait = readWait(retryAfter);
    if (cid !== undefined) return this.#messageRefused(cid, error, wait);
    if (roomId !== undefined && this.#requests) return this.#requests.refused(roomId, error, wait);
    const { next } = this.#unanswered;
    if (error.code === 'rate_limited' && next) return this.#requestPostponed(next, error, wait ?? DEFAULT_RETRY);
    if (UNREAD.has(error.code) && this.#unreadByServer(error)) return;
    if (this.#transients?.mayBeAnswered) {
      // The client was not in the room any more: such a frame may get lost.
      if (error.code === 'not_entered') return;
    } else if (next?.kind === 'enter' && this.#requests) {
      // Answers come in order, so it is about the oldest request, even if the server does not name it.
      return this.#requests.refused(next.id, error, wait);
    }
    this.#events.emit('error', error);
  }

  #messageRefused(cid, error, wait) {
    this.#unanswered.remove('message', cid);
    if (error.code === 'not_entered') {
      // The client was removed from the room while the message was in flight. It is sent again after the next enter.
      const membership = this.#rooms.get(this.#outbox.roomOf(cid));
      if (membership?.isInRoom) membership.removed(error, wait);
    } else if (error.code === 'rate_limited' || (PASSING.has(error.code) && wait !== null)) {
      this.#outbox.postpone(cid, wait ?? DEFAULT_RETRY, { isRate: error.code === 'rate_limited' });
    } else if (!this.#outbox.reject(cid, error)) {
      this.#events.emit('error', error);
    }
  }

  #requestPostponed({ kind, id }, error, wait) {
    if (kind === 'auth') this.#tokenPostponed(error, wait);
    else if (kind === 'enter') this.#requests.refused(id, error, wait);
    else this.#requests.repeat(kind, id);
  }

  /** The server answers in order: the frame that it could not read is the oldest. Returns whether that explains the
   * error. */
  #unreadByServer(error) {
    const { kind, id } = this.#unanswered.shift() ?? {};
    this.#noteAnswer();
    if (kind === 'message') return this.#outbox.reject(id, error);
    if (kind === 'enter') this.#rooms.get(id)?.refused(error, null);
    return kind === 'enter';
  }

  // ---- Authentication --------------------------------------------------------------------------

  #authenticated() {
    const wasNeeded = this.#auth.accepted();
    if (!this.#welcome) return;
    this.#becomeReady();
    if (wasNeeded) this.#requests.enterAll();
    this.#noteAnswer();
  }

  /** The server has answered a request that it refuses to clients that must authenticate. */
  #accepted() {
    this.#auth.granted();
    this.#tokens.resetRefusals();
    this.#becomeReady();
  }

  #ponged() {
    if (!this.#unanswered.answered('ping') || this.#auth.isNeeded) return;
    this.#accepted();
    this.#noteAnswer();
  }

  #notAuthenticated({ message }) {
    const error = new ChatError('no_auth', String(message));
    const meaning = this.#auth.refused(error.message, this.#isInRoom, this.#transients?.mayBeAnswered ?? false);
    this.#noteAnswer();
    if (meaning === 'repeated') return;
    if (meaning === 'renewal') return this.#events.emit('error', error);
    const { isFunction, hasAnother } = this.#tokens;
    if (!hasAnother && (isFunction || !this.#hasEntered)) return this.#on.ended(error);
    if (this.#isReady) this.#on.outside(error, meaning === 'expired');
    if (hasAnother && !this.#auth.isSent) this.#auth.renew();
  }

  #tokenPostponed(error, wait) {
    this.#auth.postponed(wait);
    this.#noteAnswer();
    if (!this.#auth.isGranted) this.#on.postponed(error);
  }

  #becomeReady() {
    this.#isReady = true;
    this.#on.ready();
  }

  // ---- Answers in time -------------------------------------------------------------------------

  /** Whether the client waits for an answer of the server, or for a token of the application. */
  get #isAsking() {
    if (!this.#welcome || (!this.#auth.isGranted && this.#auth.isPending)) return true;
    return ['resume', 'enter', 'ping'].some((kind) => this.#unanswered.count(kind) > 0);
  }

  #expectAnswer() {
    if (this.#isExpecting) return;
    this.#isExpecting = true;
    this.#socket.expectAnswer(this.#options.attemptTimeout);
  }

  /** Notes an answer. Other pending requests get the full time again. */
  #noteAnswer() {
    if (this.#isClosed) return;
    this.#isExpecting = false;
    if (this.#isAsking) this.#expectAnswer();
    else this.#socket.expectAnswer(null);
  }
}

function readWait(retryAfter) {
  return retryAfter >= 0 ? Math.min(retryAfter, MAX_WAIT) : null;
}
