// One attempt to connect, and the connection that results from it.

import { Authentication } from './authentication.js';
import { ChatError, CLOSE_LOST, mayReturn } from './errors.js';
import { NOT_OF_A_ROOM } from './events.js';
import { objectsIn } from './json.js';
import { RateBudget } from './rate-budget.js';
import { readWait, Refusals } from './refusals.js';
import { readRetry } from './retry.js';
import { RoomRequests } from './room-requests.js';
import { Socket } from './socket.js';
import { Transients } from './transients.js';
import { Unanswered } from './unanswered.js';

const PROTOCOL = 'chat-rooms.v1';

// Times are milliseconds.
/** Clients spread their reconnection over this time if the server does not say when to reconnect. */
const RETURN_SPREAD = 1_000;

/** Close codes that ask for another token: never authenticated, token expired, refused at the upgrade. */
const AUTH_CODES = new Set([4502, 4504, 4505]);
/** Those that mean that the server has not read a pending token. */
const UNREAD_TOKEN_CODES = new Set([4504, 4505]);
/** The events that a server may send before its welcome, besides heartbeats. */
const BEFORE_WELCOME = new Set(['welcome', 'authenticated', 'noAuth', 'error']);

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
  #directs;
  #env;
  #on;
  #socket;
  #auth;
  #unanswered;
  #refusals;
  /** Null before the welcome. */
  #requests = null;
  #transients = null;
  /** Sent as soon as the socket is open. */
  #firstToken;
  #isOpen = false;
  #isClosed = false;
  #welcome = null;
  #isReady = false;
  /** Whether the application wants to send another token. */
  #isTokenWanted = false;
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
    const { env, options, session, tokens, outbox, events, rooms, directs } = shared;
    this.#env = env;
    this.#options = options;
    this.#session = session;
    this.#tokens = tokens;
    this.#outbox = outbox;
    this.#events = events;
    this.#rooms = rooms;
    this.#directs = directs;
    this.#on = on;
    this.#unanswered = new Unanswered(env);
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
    this.#refusals = new Refusals({ events, outbox, rooms, directs, unanswered: this.#unanswered }, {
      requests: () => this.#requests,
      answered: () => this.#noteAnswer(),
      tokenPostponed: (error, wait) => this.#tokenPostponed(error, wait),
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
    const { resume, resumeWindow } = this.#welcome ?? {};
    if (resumeWindow > 0) this.#session.disconnected(resume, resumeWindow, this.#env.performance.now());
    this.#socket.close(code, reason);
    this.#auth.end();
    this.#requests?.stop();
    this.#transients?.stop();
    this.#directs.stop();
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
    if (Number.isInteger(frame.direct) && frame.event !== 'resumed') return this.#directs.receive(frame);
    switch (frame.event) {
      case 'heartbeat': return frame.message === 'pong' ? this.#ponged() : undefined;
      case 'welcome': return this.#welcomed(frame);
      case 'resumed': return this.#requests.resumed(frame);
      case 'entered': return this.#requests.entered(frame);
      case 'left': return this.#requests.left(frame, readWait(frame.retryAfter));
      case 'authenticated': return this.#authenticated();
      case 'expiring': return this.#auth.expiring(frame.in);
      case 'noAuth': return this.#notAuthenticated(frame);
      case 'error': return this.#refusals.receive(frame);
      case 'ack': return this.#acknowledged(frame);
      case 'lagged': return this.#rooms.get(frame.roomId)?.lagged(frame.missed);
      case 'members': return this.#requests.page(frame);
      case 'history': return this.#receiveHistory(frame);
      default: return this.#receiveOther(frame);
    }
  }

  /** Takes the answer to a request for messages. The host may send such an event to a room. */
  #receiveHistory(frame) {
    const { seq, cid, messages, more } = frame;
    if (Number.isInteger(seq)) return this.#receiveOther(frame);
    this.#unanswered.remove('message', cid);
    this.#outbox.acknowledge(cid, { messages: objectsIn(messages), more: more === true });
  }

  /** Takes a frame of a room, or one that the host sent to this connection only. */
  #receiveOther(frame) {
    const { event, roomId, member, seq } = frame;
    if (Number.isInteger(seq)) {
      if (this.#rooms.get(roomId)?.receive(frame) !== false) return;
      this.#on.lost(new ChatError('gap', 'a frame is missing', { closeCode: CLOSE_LOST }));
    } else if (event === 'presence' || event === 'state') {
      this.#rooms.get(roomId)?.receivePresence(frame);
    } else if (roomId !== undefined && (member !== undefined || this.#transients.isTransient(event))) {
      this.#rooms.get(roomId)?.receiveTransient(frame);
    } else {
      this.#events.emitFrame(frame, NOT_OF_A_ROOM);
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
    const transients = new Transients(this.#env, welcome, (text) => this.#sendUnanswered(text));
    this.#transients = transients;
    this.#outbox.configure(welcome.limits, budget, (event) => transients.isTransient(event));
    const shared = {
      env: this.#env, budget, transients, rooms: this.#rooms, session: this.#session, directs: this.#directs,
      auth: this.#auth, unanswered: this.#unanswered,
    };
    this.#directs.connected(welcome.connection, (text, cid) => this.#transmit(text, cid));
    this.#requests = new RoomRequests(shared, welcome.resume, {
      send: (text) => this.#socket.send(text),
      transmit: (text, cid) => this.#transmit(text, cid),
      sendUnanswered: (text) => this.#sendUnanswered(text),
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


  // ---- Messages --------------------------------------------------------------------------------

  #transmit(text, cid) {
    this.#unanswered.add('message', cid);
    this.#socket.send(text);
  }

  /** Sends a frame that the server answers only if it refuses it. */
  #sendUnanswered(text) {
    this.#unanswered.noteOther();
    this.#socket.send(text);
  }

  #acknowledged({ cid, seq, id, reached }) {
    this.#unanswered.remove('message', cid);
    this.#outbox.acknowledge(cid, { seq, id, reached });
  }

  // ---- Authentication --------------------------------------------------------------------------

  /** The application has another token. It is asked for it as soon as the connection is ready. */
  authenticate() {
    this.#isTokenWanted = !this.#isReady;
    if (this.#isReady && this.#tokens.isFunction) this.#auth.renew();
  }

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
    const meaning = this.#auth.refused(error.message, this.#isInRoom, this.#unanswered.mayBeOther);
    this.#noteAnswer();
    if (meaning === 'repeated') return;
    if (meaning === 'renewal') return this.#events.emit('error', error);
    this.#directs.stop();
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
    this.#directs.accepted();
    if (this.#isTokenWanted) this.authenticate();
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
