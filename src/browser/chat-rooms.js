// The browser client of the `chat-rooms.v1` subprotocol. It enters a room and stays in it through lost
// connections, restarts of the server and sleeping tabs. What is sent arrives once and in order.
//
//     const room = await connect('/chat', { name: 'ann', room: 'tea' });
//     room.on('message', (frame) => console.log(frame.name, frame.message));
//     await room.send('hi');
//
// One file without dependencies. `chat-rooms.d.ts` beside it has the types and documents every option,
// method and event.
//
//     Room        what the application uses: state, coming back, the frames of the protocol
//     Outbox      messages that are not acknowledged yet, sent in order and within the rate limits
//     Connection  one socket: heartbeats, and whether the other end is still there
//     Timer, TokenBucket, Emitter

const PROTOCOL = 'chat-rooms.v1';

// Times are milliseconds.
/** A connection that was in the room for this long has worked: the next backoff starts from the beginning. */
const STABLE = 10_000;
/** A timer that fires this much later than asked was held up, and so were the frames behind it. */
const LATE = 500;
/** Within this time a probe has to be answered. */
const PROBE_TIMEOUT = 3_000;
/** Over this time clients spread their return if the server doesn't say when to come back. */
const BREAK_SPREAD = 1_000;
/** A token function that failed is asked again after this, and a refused token is replaced. */
const TOKEN_RETRY = 5_000;
/** Between two tokens lies at least this, however short they live. */
const TOKEN_PAUSE = 1_000;
/** Where a server says "later" but not when. */
const DEFAULT_RETRY = 1_000;
const MAX_WAIT = 3_600_000;
const MAX_TIMER = 0x7fff_ffff;

/** How many times longer than asked a silence may last where connections turned out to be slow. */
const MAX_PATIENCE = 4;
/** Refused tokens in a row after which the client gives up. */
const MAX_REFUSALS = 3;
/** The most resume tokens that a server reads. */
const MAX_RESUME_TOKENS = 8;

/** Close codes of this client. */
const GIVEN_UP = 4000;
const LEFT = 1000;
/** Close codes that ask for another token: never authenticated, token expired, refused at the upgrade. */
const AUTH_CODES = new Set([4502, 4504, 4505]);

const DEFAULT_HEARTBEAT = { interval: 25_000, timeout: 20_000 };
const DEFAULT_RATES = { messages: 100, bytes: 262_144, burst: 2 };

/** Events of the protocol, which applications can't send. */
const RESERVED = new Set([
  'enter', 'out', 'heartbeat', 'auth', 'noAuth', 'error', 'welcome', 'entered', 'ack', 'expiring', 'lagged', 'authenticated',
]);
/** Events of this client. A frame of such a name only reaches the handlers of `*`. */
const CLIENT_EVENTS = new Set(['state', 'gap', 'overflow', 'error', '*']);
/** Refusals of an enter that no later attempt can change. */
const FINAL = new Set(['denied', 'bad_name', 'bad_room_id']);
/** Refusals that pass. */
const TEMPORARY = new Set(['internal', 'rate_limited', 'unavailable']);
/** Refusals of a frame that the server could not read, not even its cid. */
const UNREAD = new Set(['bad_json', 'not_an_object', 'bad_shape', 'too_deep', 'bad_cid']);

/** Why something failed or ended: a code for programs, a text for people. */
export class ChatError extends Error {
  constructor(code, message, { closeCode = null, cause } = {}) {
    super(message, { cause });
    this.name = 'ChatError';
    this.code = code;
    this.closeCode = closeCode;
  }
}

/** Whether a client whose connection was closed with this code may come back as it is. */
export function mayReturn(code) {
  return [1001, 1006, 1011, 1012, 1013].includes(code) || (code >= 4000 && code <= 4499);
}

/** Enters a room. Resolves when it has been entered for the first time. */
export function connect(url, options) {
  return new Promise((resolve, reject) => { new Room(url, options, { resolve, reject }); });
}

// ---- The room --------------------------------------------------------------------------------

class Room {
  #world; // Clock, sockets and page: `globalThis`, or what a test puts in its place.
  #url;
  #options;
  #events = new Emitter();
  #unlisten = [];
  #outbox;

  /** The promise of `connect` until it is settled; afterwards the room has been entered once. */
  #entering;
  /** The one attempt or connection there is, or null; see `#attempt`. */
  #link = null;
  /** Of the next attempt, or the next enter on a connection that is outside of the room. */
  #retry;
  /** Of the next question for a token. */
  #tokenTimer;
  /** Attempts in a row that did not end in the room. */
  #failures = 0;
  /** Refused tokens in a row. */
  #refusals = 0;
  #patience = 1;

  #state = 'connecting';
  #reason = null;
  #name = null;
  #online = 0;
  #member = null;
  /** The member ids of this client in the present epoch. */
  #members = new Set();
  /** Epoch and seq of the last frame of the room. */
  #position = null;
  /** Of connections that may have the session, oldest first. */
  #resumeTokens = [];

  constructor(url, options, entering) {
    const { global = globalThis, on = {}, signal, name, room, token, protocols = [], maxQueue = 128 } = options;
    const { attemptTimeout = 15_000, maxAttempts = Infinity, backoff } = options;
    this.#options = { name, room, token, protocols, maxQueue, attemptTimeout, maxAttempts };
    this.#world = global;
    this.#entering = entering;
    this.#url = parseUrl(url, global.location?.href);
    this.#retry = new Retry(global, backoff);
    this.#tokenTimer = new Timer(global);
    this.#outbox = new Outbox(global);
    for (const [type, handler] of Object.entries(on)) if (handler) this.on(type, handler);
    const aborted = () => this.#end(new ChatError('aborted', 'aborted by the application', { cause: signal.reason }));
    if (signal?.aborted) return aborted();
    this.#listen(signal, 'abort', aborted);
    this.#listen(global, 'online', () => { this.#showNetwork(); this.#hurry(); });
    this.#listen(global, 'offline', () => this.#showNetwork());
    this.#listen(global, 'pageshow', () => this.#hurry());
    this.#listen(global, 'pagehide', ({ persisted }) => this.#hide(persisted));
    this.#listen(global.document, 'visibilitychange', () => global.document.hidden || this.#hurry());
    this.#attempt();
  }

  get state() { return this.#state; }
  get reason() { return this.#reason; }
  get retryAt() { return this.#retry.at; }
  get online() { return this.#online; }
  get name() { return this.#name; }
  get member() { return this.#member; }
  get position() { return this.#position && { ...this.#position }; }

  on(type, handler) { return this.#events.on(type, handler); }

  send(message, { event = 'message', ...extra } = {}) {
    return new Promise((resolve, reject) => {
      if (this.#state === 'closed') {
        return reject(new ChatError('closed', 'the room was left', { cause: this.#reason }));
      }
      if (RESERVED.has(event)) return reject(new ChatError('reserved_event', `"${event}" is an event of the protocol`));
      if (this.#outbox.size >= this.#options.maxQueue) {
        this.#events.emit('overflow', { event, message });
        return reject(new ChatError('overflow', 'too many messages wait to be sent'));
      }
      const cid = randomId(this.#world.crypto);
      this.#outbox.add(cid, JSON.stringify({ ...extra, event, message, cid }), { resolve, reject });
    });
  }

  enter() {
    const link = this.#link;
    if (this.#state === 'outside' && !link.asked.includes('enter')) this.#enter(link);
  }

  leave() {
    this.#end(new ChatError('left', 'left by the application', { closeCode: LEFT }));
  }

  // ---- Attempts and their end ----------------------------------------------------------------

  async #attempt() {
    const { attemptTimeout, protocols, token: given } = this.#options;
    const link = new Link(this.#now());
    this.#link = link;
    this.#retry.stop();
    link.connection = new Connection(this.#world, this.#patience, {
      opened: (protocol) => this.#opened(link, protocol, token),
      frame: (frame) => this.#receive(link, frame),
      unreadable: () => this.#unreadable(link),
      closed: (code, reason) => this.#closed(link, code, reason),
      dead: () => this.#comeBack(new ChatError('timeout', 'the server did not answer in time', { closeCode: GIVEN_UP })),
    });
    link.connection.expectAnswer(attemptTimeout);
    let token = given;
    if (typeof given === 'function') {
      try {
        token = await given();
      } catch (cause) {
        if (this.#link === link) this.#comeBack(new ChatError('token', 'the token function failed', { cause }));
        return;
      }
      if (this.#link !== link) return;
    }
    try {
      link.connection.open(this.#url.href, [PROTOCOL, ...protocols]);
    } catch (cause) {
      this.#end(new ChatError('bad_url', `no WebSocket can be opened to ${this.#url.href}: ${cause.message}`, { cause }));
    }
  }

  #opened(link, protocol, token) {
    if (protocol !== PROTOCOL) {
      return this.#end(new ChatError('protocol', `the server at ${this.#url.href} does not speak ${PROTOCOL}`));
    }
    link.isOpen = true;
    if (token) this.#authenticate(link, token);
  }

  #closed(link, code, reason) {
    if (AUTH_CODES.has(code)) return this.#closedForAuth(link, code, reason);
    if (!mayReturn(code)) {
      return this.#end(new ChatError('closed', reason || 'the server closed the connection', { closeCode: code }));
    }
    if (!link.isOpen && code === 1006) {
      const text = `no connection to ${this.#url.href}: the server is unreachable or refuses this page; a browser can't tell which`;
      return this.#comeBack(new ChatError('unreachable', text, { closeCode: code }));
    }
    const error = new ChatError('lost', reason || 'the connection was lost', { closeCode: code });
    const [, from, to] = /retry in (\d+)(?:-(\d+))? s$/.exec(reason) ?? [];
    const [wait, latest] = [from, to].map((seconds) => Math.min(seconds * 1000, MAX_WAIT));
    if (from) return this.#comeBack(error, { wait, spread: to && Math.max(0, latest - wait) });
    // The others in the room may have lost their connections as well.
    this.#comeBack(error, { spread: link.wasIn ? BREAK_SPREAD : 0 });
  }

  /** Another token may help, unless too many were refused. */
  #closedForAuth(link, code, reason) {
    const text = link.noAuth ?? (reason || 'authentication is needed');
    const error = new ChatError('no_auth', text, { closeCode: code });
    if (link.noAuth === null || link.wasIn) this.#refusals += 1;
    if (!this.#hasTokenFunction || this.#refusals >= MAX_REFUSALS) return this.#end(error);
    this.#comeBack(error, { isImmediate: true });
  }

  /** Drops the link and tries again. For `when` see {@link Retry}. */
  #comeBack(reason, when = {}, code = GIVEN_UP) {
    const { wasIn, enteredAt } = this.#link;
    // A server that lets a client in only to close again is not to be hammered.
    if (wasIn && this.#now() - enteredAt > STABLE) this.#retry.reset();
    this.#drop(code, reason.message);
    if (!wasIn && reason.code !== 'hidden' && this.#failed(reason)) return;
    this.#retry.arm(() => this.#attempt(), when);
    this.#become(this.#awayState(), reason);
  }

  /** Counts an attempt that did not end in the room. True if it was the last one. */
  #failed(reason) {
    this.#failures += 1;
    if (this.#failures < this.#options.maxAttempts) return false;
    const text = `gave up after ${this.#failures} attempts: ${reason.message}`;
    this.#end(new ChatError('gave_up', text, { closeCode: reason.closeCode, cause: reason }));
    return true;
  }

  /** There is reason to believe that the network or the page is back. */
  #hurry() {
    if (this.#link) this.#link.connection.probe();
    else if (this.#retry.mayHurry) this.#attempt();
  }

  /** A page that is left says goodbye. One that the browser may restore keeps its session for a while. */
  #hide(mayBeRestored) {
    if (!this.#link) return;
    this.#comeBack(new ChatError('hidden', 'the page was left'), {}, mayBeRestored ? GIVEN_UP : LEFT);
  }

  #end(reason) {
    if (this.#state === 'closed') return;
    this.#drop(LEFT);
    for (const unlisten of this.#unlisten) unlisten();
    this.#become('closed', reason);
    this.#outbox.fail(new ChatError('closed', `not acknowledged before the end: ${reason.message}`, { cause: reason }));
    this.#entering?.reject(reason);
    this.#entering = null;
  }

  #drop(code, text = '') {
    this.#link?.connection.close(code, text);
    this.#patience = this.#link?.connection.patience ?? this.#patience;
    this.#link = null;
    this.#retry.stop();
    this.#tokenTimer.stop();
    this.#outbox.stop();
  }

  // ---- Frames --------------------------------------------------------------------------------

  #receive(link, frame) {
    switch (frame.event) {
      case 'heartbeat': if (link.entered && Number.isInteger(frame.num)) this.#online = frame.num; return;
      case 'welcome': return this.#welcomed(link, frame);
      case 'entered': return this.#entered(link, frame);
      case 'authenticated': return this.#authenticated(link);
      case 'expiring': return this.#expiring(link, frame);
      case 'noAuth': return this.#notAuthenticated(link, String(frame.message));
      case 'error': return this.#refused(link, frame);
      case 'ack': return void this.#outbox.acknowledge(frame.cid, frame.seq);
      case 'lagged': return this.#lagged(link, frame);
      default:
        // What has no seq comes from the host, to this connection alone.
        if (!Number.isInteger(frame.seq)) this.#deliver(frame, { own: false, replayed: false });
        else if (link.entered) this.#roomFrame(link, frame);
    }
  }

  #roomFrame(link, frame) {
    const { seq } = frame;
    const missing = seq - this.#position.seq - 1;
    if (missing < 0) return;
    if (missing > link.unread) {
      return this.#comeBack(new ChatError('gap', 'a frame is missing', { closeCode: GIVEN_UP }));
    }
    if (missing > 0) this.#skip(missing);
    link.unread = 0;
    this.#position.seq = seq;
    const replayed = seq <= link.entered.seq;
    if (!replayed && Number.isInteger(frame.num)) this.#online = frame.num;
    // Nobody else knows a cid before the room has seen it.
    const isUnmarked = frame.member === undefined;
    const isOwn = this.#members.has(frame.member);
    const isAcknowledged = (isOwn || isUnmarked) && this.#outbox.acknowledge(frame.cid, seq);
    this.#deliver(frame, { own: isOwn || isAcknowledged, replayed });
    this.#startSending(link); // The replay may be at its end.
  }

  #deliver(frame, info) {
    if (!CLIENT_EVENTS.has(frame.event)) this.#events.emit(frame.event, frame, info);
    this.#events.emit('*', frame, info);
  }

  /** Frames are gone for good: the server has dropped them, or they could not be read. */
  #skip(count) {
    const before = this.position;
    this.#position.seq += count;
    this.#events.emit('gap', { before, after: this.position });
  }

  #lagged(link, { missed }) {
    if (!link.entered || !Number.isInteger(missed) || missed < 1) return;
    this.#skip(missed);
    this.#startSending(link);
  }

  /** Whether it was a frame of the room is not known, except in a replay; the next seq tells. */
  #unreadable(link) {
    this.#events.emit('error', new ChatError('bad_frame', 'the server sent a frame that is no JSON object'));
    if (this.#link !== link) return; // A handler has left.
    if (link.entered && this.#position.seq < link.entered.seq) {
      this.#skip(1);
      this.#startSending(link);
    } else {
      link.unread += 1;
    }
  }

  // ---- Entering ------------------------------------------------------------------------------

  #welcomed(link, welcome) {
    if (link.welcome) return;
    const { resume, heartbeat, limits, rates } = welcome;
    link.welcome = welcome;
    link.connection.setHeartbeat({ ...DEFAULT_HEARTBEAT, ...heartbeat });
    this.#outbox.configure(limits ?? {}, rates ?? DEFAULT_RATES);
    this.#enter(link);
    if (resume) this.#resumeTokens.push(resume);
    // The first is of the last connection that is known to have had the session: the best there is if
    // none of the enters since has arrived. Otherwise one of the latest has it.
    if (this.#resumeTokens.length > MAX_RESUME_TOKENS) this.#resumeTokens.splice(1, 1);
  }

  #enter(link) {
    const frame = { event: 'enter', message: this.#options.name, roomId: this.#options.room };
    if (this.#position) frame.since = this.#position;
    const resume = this.#resumeTokens.filter((token) => token !== link.welcome.resume);
    if (resume.length) frame.resume = resume;
    link.asked.push('enter');
    this.#retry.stop();
    link.connection.expectAnswer(this.#options.attemptTimeout);
    link.connection.send(frame);
  }

  #entered(link, answer) {
    link.answered('enter');
    const before = this.position;
    const member = answer.member ?? answer.connection ?? null;
    const isAllKnown = this.#outbox.isKnownTo(answer.resumed ? member : null);
    const replayed = answer.replayed ?? (answer.recovered && before ? answer.seq - before.seq : 0);
    Object.assign(link, { entered: answer, enteredAt: this.#now(), isAllKnown, isSending: false, unread: 0, needsAuth: false });
    if (before?.epoch !== answer.epoch) this.#members.clear();
    this.#members.add(member);
    this.#position = { epoch: answer.epoch, seq: answer.seq - replayed };
    [this.#member, this.#name, this.#online] = [member, answer.name, answer.num];
    [this.#refusals, this.#failures] = [0, 0];
    this.#resumeTokens = link.welcome.resume ? [link.welcome.resume] : [];
    link.connection.expectAnswer(null);

    const entering = this.#entering;
    this.#entering = null;
    if (this.#state !== 'online') this.#become('online', null);
    const after = this.position;
    if (before && (before.epoch !== after.epoch || before.seq !== after.seq)) this.#events.emit('gap', { before, after });
    entering?.resolve(this);
    this.#startSending(link);
  }

  /** Sending begins when no message can be in the replay any more: what is there must not be sent again. */
  #startSending(link) {
    if (this.#link !== link || !link.entered || link.isSending) return;
    if (!link.isAllKnown && this.#position.seq < link.entered.seq) return;
    link.isSending = true;
    this.#outbox.start((text) => link.connection.send(text), this.#member);
  }

  #refused(link, { code, message, cid, roomId, retryAfter }) {
    const error = new ChatError(String(code), String(message));
    const wait = retryAfter >= 0 ? Math.min(retryAfter, MAX_WAIT) : null;
    if (cid !== undefined) return this.#messageRefused(link, cid, error, wait);
    if (link.asked.includes('enter')) return this.#enterRefused(link, error, wait);
    if (link.entered && roomId !== undefined) return this.#putOut(link, error, { isTemporary: TEMPORARY.has(error.code), wait });
    if (UNREAD.has(error.code) && this.#outbox.rejectOldest(error)) return;
    this.#events.emit('error', error);
  }

  #messageRefused(link, cid, error, wait) {
    if (error.code === 'not_entered') {
      // It was under way when the room was left, and is sent again in the room.
      if (link.entered) this.#putOut(link, error, { isTemporary: true, wait });
    } else if (error.code === 'rate_limited' || (TEMPORARY.has(error.code) && wait !== null)) {
      this.#outbox.postpone(cid, wait ?? DEFAULT_RETRY);
    } else if (!this.#outbox.reject(cid, error)) {
      this.#events.emit('error', error);
    }
  }

  #enterRefused(link, error, wait) {
    link.answered('enter');
    // On coming back, the room may be full of this client's own lost connection: that passes as well.
    const isTemporary = TEMPORARY.has(error.code) || (!this.#entering && !FINAL.has(error.code));
    if (!isTemporary && !link.wasIn) return this.#end(error);
    this.#putOut(link, error, { isTemporary, wait });
  }

  /** The connection stays, outside of the room. Enters again if the reason may pass. */
  #putOut(link, error, { isTemporary = false, wait = null } = {}) {
    this.#stayOutside(link);
    if (isTemporary) {
      if (this.#failed(error)) return;
      this.#retry.arm(() => this.#enter(link), { wait: wait ?? 0 });
    }
    this.#become(this.#entering ? this.#awayState() : 'outside', error);
  }

  #stayOutside(link) {
    Object.assign(link, { entered: null, isSending: false });
    this.#outbox.stop();
    link.connection.expectAnswer(null);
  }

  // ---- Authentication ------------------------------------------------------------------------

  get #hasTokenFunction() { return typeof this.#options.token === 'function'; }

  #authenticate(link, token) {
    link.asked.push('auth');
    link.authAt = this.#now();
    link.connection.send({ event: 'auth', message: token });
  }

  /** Asks for a fresh token and sends it on the connection that there is. */
  async #renew(link) {
    if (link.isAskingToken) return;
    link.isAskingToken = true;
    if (!link.entered) link.connection.expectAnswer(this.#options.attemptTimeout);
    let token;
    let error = null;
    try {
      token = await this.#options.token();
    } catch (cause) {
      error = new ChatError('token', 'the token function failed', { cause });
    }
    if (this.#link !== link) return;
    link.isAskingToken = false;
    if (error) {
      this.#tokenTimer.arm(TOKEN_RETRY, () => this.#renew(link));
      this.#events.emit('error', error);
    } else if (token) {
      this.#authenticate(link, token);
    } else if (!link.entered) {
      this.#end(new ChatError('no_auth', link.noAuth));
    }
  }

  #expiring(link, { in: left }) {
    if (!this.#hasTokenFunction) return;
    // A token that lives no longer than the warning is warned of as soon as it is accepted.
    const used = this.#now() - link.authAt;
    const delay = Math.max(0, TOKEN_PAUSE - used, Math.min(left / 2, MAX_WAIT) - used);
    this.#tokenTimer.arm(delay, () => this.#renew(link));
  }

  #authenticated(link) {
    link.answered('auth');
    if (link.needsAuth && link.welcome) this.#enter(link);
    link.needsAuth = false;
  }

  #notAuthenticated(link, text) {
    const refused = link.asked.shift();
    // These are refused along with the token before them.
    if (refused === 'message' || (refused === 'enter' && link.needsAuth)) return;
    const error = new ChatError('no_auth', text);
    const isRenewal = link.entered && refused === 'auth';
    const isExpiry = link.entered && !isRenewal;
    Object.assign(link, { noAuth: text, needsAuth: true });
    this.#refusals = isExpiry ? 0 : this.#refusals + 1;
    const tryAgain = this.#hasTokenFunction && this.#refusals < MAX_REFUSALS;
    if (isRenewal) {
      // The old token still counts. Should this be its end, the enter after the next token makes up for it.
      if (tryAgain) this.#tokenTimer.arm(TOKEN_RETRY, () => this.#renew(link));
      return this.#events.emit('error', error);
    }
    if (isExpiry) {
      for (let n = this.#outbox.inFlight; n > 0; n -= 1) link.asked.push('message');
      this.#stayOutside(link);
    }
    if (!tryAgain && (this.#hasTokenFunction || !link.wasIn)) return this.#end(error);
    if (link.wasIn) this.#become('outside', error);
    if (tryAgain && this.#link === link) this.#renew(link);
  }

  // ---- What the application sees -------------------------------------------------------------

  #become(state, reason) {
    this.#state = state;
    this.#reason = reason;
    this.#events.emit('state', { state, reason, retryAt: this.retryAt });
  }

  #awayState() {
    if (this.#world.navigator?.onLine === false) return 'offline';
    return this.#entering ? 'connecting' : 'reconnecting';
  }

  #showNetwork() {
    const isAway = ['connecting', 'reconnecting', 'offline'].includes(this.#state);
    if (isAway && this.#state !== this.#awayState()) this.#become(this.#awayState(), this.#reason);
  }

  /** Monotonic: setting the clock changes nothing. */
  #now() { return this.#world.performance.now(); }

  #listen(target, type, handler) {
    target?.addEventListener?.(type, handler);
    this.#unlisten.push(() => target?.removeEventListener?.(type, handler));
  }
}

function parseUrl(text, base) {
  let url;
  try {
    url = new URL(text, base);
  } catch (cause) {
    throw new ChatError('bad_url', `"${text}" is no URL`, { cause });
  }
  url.protocol = url.protocol.replace(/^http/, 'ws');
  url.hash = '';
  if (!/^wss?:$/.test(url.protocol)) throw new ChatError('bad_url', `"${text}" is no URL of a WebSocket`);
  return url;
}

/** 96 bits that nobody can guess: others must not be able to use a cid before its message is in the room. */
function randomId(crypto) {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** What is known of one attempt and the connection that comes of it. */
class Link {
  connection = null;
  isOpen = false;
  welcome = null;
  /** The answer to the enter; null outside of the room. */
  entered = null;
  /** When it last entered; null if it has never been in the room. */
  enteredAt = null;
  /** Whether the server remembers all unacknowledged messages: then they don't have to wait for the replay. */
  isAllKnown = false;
  isSending = false;
  /** Frames since the last one of the room that could not be read. */
  unread = 0;
  /** What the server may still answer with `noAuth`, oldest first: 'auth', 'enter', 'message'. */
  asked = [];
  /** The text of the last `noAuth`. */
  noAuth = null;
  /** An enter follows the next `authenticated`. */
  needsAuth = false;
  isAskingToken = false;
  authAt;

  constructor(now) { this.authAt = now; }

  get wasIn() { return this.enteredAt !== null; }

  /** The server answers in order: with this, what was asked before it is answered too. */
  answered(what) {
    this.asked.splice(0, this.asked.indexOf(what) + 1);
  }
}

// ---- Messages to the server ------------------------------------------------------------------

/** Messages until they are acknowledged. They are sent in order, each once on a connection. */
class Outbox {
  #world;
  #timer;
  /** By cid, in order: `{ text, bytes, isSent, member, resolve, reject }`, with the member as which it
   * was sent last. */
  #messages = new Map();
  /** Sends a text; null while nothing may be sent. */
  #transmit = null;
  #member = null;
  #maxBytes = Infinity;
  #maxInFlight = Infinity;
  #rates = null;
  #buckets = [];
  #notBefore = 0;
  /** How many may be in flight since a refusal: at first the refused one alone, so that none overtakes it,
   * then one more with each that is accepted. */
  #window = Infinity;

  constructor(world) {
    this.#world = world;
    this.#timer = new Timer(world);
  }

  get size() { return this.#messages.size; }

  /** How many are sent and not answered. */
  get inFlight() { return [...this.#messages.values()].filter(({ isSent }) => isSent).length; }

  /** Whether the session of this member remembers all that was ever sent of these messages. */
  isKnownTo(session) {
    return [...this.#messages.values()].every(({ member }) => member === null || member === session);
  }

  add(cid, text, { resolve, reject }) {
    const bytes = new TextEncoder().encode(text).length;
    if (bytes > this.#maxBytes) return reject(tooBig());
    this.#messages.set(cid, { text, bytes, isSent: false, member: null, resolve, reject });
    this.#flush();
  }

  /** The limits of the present server. A rate or limit that is null is none. */
  configure({ messageBytes, cids }, rates) {
    this.#maxBytes = messageBytes ?? Infinity;
    this.#maxInFlight = cids ?? Infinity;
    const { messages, bytes, burst = DEFAULT_RATES.burst } = rates;
    const key = JSON.stringify([messages, bytes, burst]);
    if (this.#rates === key) return; // Filled no faster by coming back often.
    this.#rates = key;
    const bucket = (rate) => (rate > 0 ? new TokenBucket(rate, rate * burst, this.#now()) : null);
    this.#buckets = [[bucket(messages), () => 1], [bucket(bytes), (message) => message.bytes]].filter(([it]) => it);
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

  /** Frames are answered in order: one that could not be read is the oldest in flight. */
  rejectOldest(error) {
    const [cid] = [...this.#messages].find(([, { isSent }]) => isSent) ?? [];
    return cid !== undefined && this.reject(cid, error);
  }

  /** The server takes this one later; until then nothing is sent. */
  postpone(cid, wait) {
    const message = this.#messages.get(cid);
    if (!message) return;
    message.isSent = false;
    const now = this.#now();
    this.#notBefore = Math.max(this.#notBefore, now + wait);
    this.#window = 1;
    for (const [bucket] of this.#buckets) bucket.drain(now);
    this.#flush();
  }

  fail(error) {
    for (const { reject } of this.#messages.values()) reject(error);
    this.#messages.clear();
  }

  #take(cid) {
    const message = this.#messages.get(cid);
    this.#messages.delete(cid);
    return message;
  }

  #flush() {
    if (!this.#transmit) return;
    const now = this.#now();
    let places = Math.min(this.#window, this.#maxInFlight) - this.inFlight;
    for (const [cid, message] of this.#messages) {
      if (message.bytes > this.#maxBytes) {
        this.#take(cid).reject(tooBig()); // This server takes less than the last one.
        continue;
      }
      if (message.isSent) continue;
      if (places <= 0) return;
      const waits = this.#buckets.map(([bucket, cost]) => bucket.wait(cost(message), now));
      const wait = Math.max(this.#notBefore - now, ...waits);
      if (wait > 0) return this.#timer.arm(wait, () => this.#flush());
      for (const [bucket, cost] of this.#buckets) bucket.take(cost(message));
      places -= 1;
      Object.assign(message, { isSent: true, member: this.#member });
      this.#transmit(message.text);
    }
  }

  #now() { return this.#world.performance.now(); }
}

function tooBig() {
  return new ChatError('too_big', 'the message is bigger than the server takes');
}

// ---- One connection --------------------------------------------------------------------------

/** One socket from before it is opened until it is dropped. It answers heartbeats and finds out whether
 * the other end is still there. After `close` it reports nothing, whatever the socket does. */
class Connection {
  #world;
  #patience;
  #on;
  #timer;
  #socket = null;
  #silence = Infinity;
  #heardAt;
  #openedAt;
  /** Nothing has come too late for the patience of 1. */
  #isPrompt = true;
  /** By when the server has to have answered; null if it only has to be heard. */
  #answerBy = null;
  #probedAt = null;
  #buffered = 0;

  constructor(world, patience, on) {
    this.#world = world;
    this.#patience = patience;
    this.#on = on;
    this.#timer = new Timer(world);
    this.#heardAt = this.#now();
  }

  /** How patient the next connection has to be. */
  get patience() { return this.#patience; }

  open(url, protocols) {
    const socket = new this.#world.WebSocket(url, protocols);
    this.#socket = socket;
    socket.onopen = () => {
      this.#openedAt = this.#now();
      this.#on?.opened(socket.protocol);
    };
    socket.onmessage = ({ data }) => this.#on && this.#receive(data);
    socket.onclose = ({ code, reason }) => this.#on?.closed(code, reason ?? '');
  }

  send(frame) {
    this.#seeProgress();
    this.#socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame));
    this.#buffered = this.#socket.bufferedAmount;
  }

  close(code, reason) {
    this.#on = null;
    this.#timer.stop();
    this.#socket?.close(code, reason.slice(0, 40));
  }

  setHeartbeat({ interval, timeout }) {
    this.#silence = interval + timeout;
    this.#watch();
  }

  /** From now on the server has to answer within this time; null: any frame within the heartbeat will do. */
  expectAnswer(within) {
    this.#answerBy = within === null ? null : this.#now() + within * this.#patience;
    this.#watch();
  }

  /** Asks the server for a sign of life. */
  probe() {
    if (this.#probedAt !== null || this.#socket?.readyState !== 1) return;
    this.send({ event: 'heartbeat', message: 'ping' });
    this.#giveSecondLook();
  }

  #giveSecondLook() {
    this.#probedAt = this.#now();
    this.#timer.arm(PROBE_TIMEOUT * this.#patience, (isLate) => this.#look(isLate));
  }

  #watch() {
    if (this.#probedAt === null) this.#timer.arm(this.#timeLeft(), (isLate) => this.#look(isLate));
  }

  #timeLeft() {
    return (this.#answerBy ?? this.#heardAt + this.#silence * this.#patience) - this.#now();
  }

  /** Looks at time stamps: that the timer fired says nothing, browsers slow timers down and suspend
   * them. One that is late may have overtaken frames, so it gives them and a probe some time. */
  #look(isLate) {
    this.#seeProgress();
    const wasProbed = this.#probedAt !== null;
    const isUnanswered = wasProbed && this.#heardAt < this.#probedAt;
    this.#probedAt = null;
    if (this.#timeLeft() > 0 && !isUnanswered) return this.#watch();
    if (wasProbed) return this.#on.dead();
    if (!isLate) {
      this.#patience = Math.min(MAX_PATIENCE, this.#patience * 2);
      return this.#on.dead();
    }
    if (this.#socket?.readyState === 1) this.probe();
    else this.#giveSecondLook();
  }

  /** That the network takes what is sent is a sign of life as long as more is waiting: the system's own buffer
   * takes some from every sender. */
  #seeProgress() {
    const buffered = this.#socket?.bufferedAmount ?? 0;
    if (buffered > 0 && buffered < this.#buffered) this.#heardAt = this.#now();
    this.#buffered = buffered;
  }

  #receive(data) {
    const now = this.#now();
    if (now - this.#heardAt > this.#silence) this.#isPrompt = false;
    this.#heardAt = now;
    const frame = parse(data);
    if (!frame) return this.#on.unreadable();
    if (frame.event === 'heartbeat') {
      if (frame.message !== 'pong') this.send({ event: 'heartbeat', message: 'pong' });
      if (this.#isPrompt && now - this.#openedAt > STABLE) this.#patience = 1;
    }
    this.#on.frame(frame);
  }

  #now() { return this.#world.performance.now(); }
}

function parse(data) {
  try {
    const frame = JSON.parse(data);
    return typeof frame === 'object' && !Array.isArray(frame) ? frame : null;
  } catch { return null; }
}

// ---- Tools -----------------------------------------------------------------------------------

class Timer {
  #world;
  #id;

  constructor(world) { this.#world = world; }

  /** In place of what was armed before. The task is told whether it comes late. */
  arm(delay, task) {
    this.stop();
    const due = this.#world.performance.now() + delay;
    const run = () => task(this.#world.performance.now() - due > LATE);
    this.#id = this.#world.setTimeout(run, Math.min(delay, MAX_TIMER));
  }

  stop() { this.#world.clearTimeout(this.#id); }
}

/** When to try again: with exponential backoff and full jitter, unless a time is given. */
class Retry {
  #world;
  #timer;
  #base;
  #cap;
  /** How often since the last reset. */
  #count = 0;
  #notBefore = 0;
  #at = null;

  constructor(world, { base = 500, cap = 10_000 } = {}) {
    this.#world = world;
    this.#timer = new Timer(world);
    this.#base = base;
    this.#cap = cap;
  }

  /** When the next attempt is due; null if none is. */
  get at() { return this.#at; }

  /** Whether the server has not asked to wait longer. */
  get mayHurry() { return this.#world.performance.now() >= this.#notBefore; }

  /** Runs the task after `wait` and a random part of `spread`, or of the backoff, whichever is longer. The first
   * time it is the spread, where there is something to go by: a wait without a spread has half of it. */
  arm(task, { wait = 0, spread = wait / 2, isImmediate = false } = {}) {
    const backoff = Math.min(this.#cap, this.#base * 2 ** this.#count);
    const longest = this.#count === 0 && wait + spread > 0 ? spread : Math.max(spread, backoff);
    const now = this.#world.performance.now();
    this.#count += 1;
    this.#notBefore = now + wait;
    this.#at = isImmediate ? now : now + wait + this.#world.Math.random() * longest;
    this.#timer.arm(this.#at - now, task);
  }

  stop() {
    this.#at = null;
    this.#timer.stop();
  }

  reset() { this.#count = 0; }
}

/** Filled continuously. Keeps half of the server's capacity unused: what is sent evenly may arrive in lumps. */
class TokenBucket {
  #perMs;
  #capacity;
  #level;
  #filledAt;

  constructor(perSecond, capacity, now) {
    this.#perMs = perSecond / 1000;
    this.#capacity = Math.max(1, capacity / 2);
    this.#level = this.#capacity;
    this.#filledAt = now;
  }

  /** How long until so much can be taken. What is more than the capacity is lent by a full bucket. */
  wait(amount, now) {
    this.#level = Math.min(this.#capacity, this.#level + (now - this.#filledAt) * this.#perMs);
    this.#filledAt = now;
    const missing = Math.min(amount, this.#capacity) - this.#level;
    return missing > 0 ? Math.ceil(missing / this.#perMs) : 0;
  }

  take(amount) { this.#level -= amount; }

  drain(now) {
    this.#filledAt = now;
    this.#level = Math.min(0, this.#level);
  }
}

class Emitter {
  #handlers = new Map();

  /** Returns a function that takes the handler away again. */
  on(type, handler) {
    const handlers = this.#handlers.get(type) ?? new Set();
    this.#handlers.set(type, handlers.add(handler));
    return () => { handlers.delete(handler); };
  }

  /** A handler that throws harms nobody else; its error is reported as uncaught. */
  emit(type, value, info) {
    for (const handler of [...this.#handlers.get(type) ?? []]) {
      try { handler(value, info); } catch (error) { queueMicrotask(() => { throw error; }); }
    }
  }
}
