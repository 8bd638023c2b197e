// The browser client of the `chat-rooms.v1` wire: enters a room and stays in it, through lost
// connections, restarts of the server and sleeping tabs. What is sent arrives once and in order.
//
//     const room = await connect('/chat', { name: 'ann', room: 'tea' });
//     room.on('message', (frame) => console.log(frame.name, frame.message));
//     await room.send('hi');
//
// One file without dependencies; the types and the documentation of every option and event are in
// `chat-rooms.d.ts` beside it.

const PROTOCOL = 'chat-rooms.v1';
/** A connection that has held this long has worked: the backoff begins anew after it. */
const STABLE = 5_000;
/** A timer that fires later than this was held up, and so were the frames that wait behind it. */
const LATE = 500;
/** What such frames are given to come in. */
const SECOND_LOOK = 1_000;
/** The most secrets that the server looks at. */
const MOST_SECRETS = 8;
const MOST_REFUSALS = 3;
const LONGEST_WAIT = 3_600_000;
const LONGEST_TIMER = 0x7fff_ffff;
const GIVEN_UP = 4000;
const LEFT = 1000;

/** Events of the wire that an application can't send. */
const RESERVED = new Set(['enter', 'out', 'auth', 'noAuth', 'heartbeat', 'error', 'welcome', 'entered', 'ack']);
/** Events of a room that no frame can be named after. */
const OWN_EVENTS = new Set(['message', 'enter', 'out', 'state', 'gap', 'overflow', 'error']);
/** Refusals that no later attempt can change. */
const FINAL = new Set(['denied', 'bad_name', 'bad_room_id']);
/** Refusals of a frame that the server couldn't read, not even its cid. */
const UNREAD = new Set(['bad_json', 'not_an_object', 'bad_shape', 'too_deep', 'reserved_event', 'bad_cid']);

/** Why something failed or ended: a code for programs, a text for people. */
export class ChatError extends Error {
  constructor(code, message, { closeCode = null, cause } = {}) {
    super(message, { cause });
    this.name = 'ChatError';
    this.code = code;
    this.closeCode = closeCode;
  }
}

/** Whether a client whose connection was closed with this code may come back. */
export function mayReturn(code) {
  return [1001, 1006, 1011, 1012, 1013].includes(code) || (code >= 4000 && code <= 4499);
}

/** Enters a room; done when it has been entered for the first time. */
export function connect(url, options) {
  return new Promise((resolve, reject) => { new Room(url, options, { resolve, reject }); });
}

class Room {
  #world; // Clock, sockets and the page: `globalThis`, or what a test puts in its place.
  #options;
  #url;
  /** The promise of `connect`, until it is settled: afterwards this has once been a member. */
  #entering;
  #handlers = new Map();
  #unlisten = [];

  /** The one attempt or connection there is, or null. Each has an object of its own, and events
   * that belong to any other change nothing: a stale socket may say what it likes. */
  #link = null;
  /** For the next attempt while there is no link, else for the next look at its silence. */
  #timer;
  #attempts = 0;
  #refusals = 0;
  #notBefore = 0;

  #state = 'connecting';
  #reason = null;
  #retryAt = null;
  #name = null;
  #id = null;
  #online = 0;
  #limits = {};

  /** Secrets of connections that may have the seat, oldest first. */
  #secrets = [];
  /** The last frame of the room that has come. */
  #position = null;
  /** Where the enter stands that began this membership. */
  #enterSeq = null;

  #cidPrefix;
  #cids = 0;
  /** Unacknowledged messages by cid, in order: `{ text, bytes, link, member, resolve, reject }`,
   * with the connection and the membership in which each was sent last. */
  #queue = new Map();
  /** Cids by the seq of frames that are acknowledged, but haven't come yet. */
  #expected = new Map();

  constructor(url, options, entering) {
    const { global = globalThis, on = {}, signal, name, room, token, protocols = [] } = options;
    const { maxQueue = 128, attemptTimeout = 15_000, backoff: { base = 500, cap = 10_000 } = {} } = options;
    this.#options = { name, room, token, protocols, maxQueue, attemptTimeout, base, cap };
    this.#world = global;
    this.#url = new URL(url, global.location?.href);
    this.#url.protocol = this.#url.protocol.replace(/^http/, 'ws');
    this.#url.hash = '';
    this.#entering = entering;
    this.#cidPrefix = [...global.crypto.getRandomValues(new Uint32Array(2))].map((n) => n.toString(36)).join('');
    for (const [type, handler] of Object.entries(on)) this.on(type, handler);
    const aborted = () => this.#end(new ChatError('aborted', 'aborted by the application', { cause: signal.reason }));
    if (signal?.aborted) return aborted();
    this.#listen(signal, 'abort', aborted);
    this.#listen(global, 'online', () => { this.#showNetwork(); this.#hurry(); });
    this.#listen(global, 'offline', () => this.#showNetwork());
    this.#listen(global, 'pageshow', () => this.#hurry());
    this.#listen(global, 'pagehide', () => this.#hidden());
    this.#listen(global.document, 'visibilitychange', () => global.document.hidden || this.#hurry());
    this.#attempt();
  }

  get state() { return this.#state; }
  get reason() { return this.#reason; }
  get retryAt() { return this.#retryAt; }
  get online() { return this.#online; }
  get name() { return this.#name; }
  get id() { return this.#id; }
  get position() { return this.#position && { ...this.#position }; }

  on(type, handler) {
    const handlers = this.#handlers.get(type) ?? new Set();
    this.#handlers.set(type, handlers.add(handler));
    return () => { handlers.delete(handler); };
  }

  send(message, { event = 'message', ...extra } = {}) {
    return new Promise((resolve, reject) => {
      if (this.#state === 'closed') return reject(new ChatError('closed', 'the room was left', { cause: this.#reason }));
      if (RESERVED.has(event)) return reject(new ChatError('reserved_event', `"${event}" is the protocol's own event`));
      const cid = `${this.#cidPrefix}-${this.#cids += 1}`;
      const text = JSON.stringify({ ...extra, event, message, cid });
      const entry = { text, bytes: new TextEncoder().encode(text).length, link: null, member: null, resolve, reject };
      if (this.#isTooBig(entry)) return reject(tooBig());
      if (this.#queue.size >= this.#options.maxQueue) {
        this.#emit('overflow', { event, message });
        return reject(new ChatError('overflow', 'too many messages wait to be sent'));
      }
      this.#queue.set(cid, entry);
      this.#flush();
    });
  }

  leave() {
    this.#end(new ChatError('left', 'left by the application', { closeCode: LEFT }));
  }

  // ---- Coming and going ----------------------------------------------------------------------
  async #attempt() {
    const now = this.#now();
    const link = { socket: null, began: now, heard: now, entered: null, since: 0, spared: false };
    this.#link = link;
    this.#retryAt = null;
    this.#arm(this.#options.attemptTimeout, (late) => this.#look(late));
    let { token } = this.#options;
    if (typeof token === 'function') {
      try {
        token = await token();
      } catch (cause) {
        if (this.#link === link) this.#comeBack(new ChatError('token', 'no token could be had', { cause }));
        return;
      }
      if (this.#link !== link) return;
    }
    try {
      link.socket = new this.#world.WebSocket(this.#url.href, [PROTOCOL, ...this.#options.protocols]);
    } catch (cause) {
      return this.#end(new ChatError('bad_request', 'no connection can be made to this address', { cause }));
    }
    const ifCurrent = (handle) => (event) => { if (this.#link === link) handle(event); };
    link.socket.onopen = ifCurrent(() => this.#opened(token));
    link.socket.onmessage = ifCurrent((event) => this.#receive(event.data));
    link.socket.onclose = ifCurrent((event) => this.#closed(event));
  }

  #opened(token) {
    if (this.#link.socket.protocol !== PROTOCOL) {
      return this.#end(new ChatError('protocol', `the server at ${this.#url.href} doesn't speak ${PROTOCOL}`));
    }
    if (token) this.#transmit({ event: 'auth', message: token });
  }

  #closed({ code, reason }) {
    if (!mayReturn(code)) {
      return this.#end(new ChatError('closed', reason || 'the server ended the connection', { closeCode: code }));
    }
    const text = reason || (this.#link.entered ? 'the connection was lost' : 'no connection could be made');
    const seconds = Number(/retry in (\d+) s$/.exec(reason)?.[1] ?? 0);
    this.#comeBack(new ChatError('lost', text, { closeCode: code }), { wait: Math.min(seconds * 1000, LONGEST_WAIT) });
  }

  /** Gives up the link and comes back later: with full jitter, so that many don't come at once. */
  #comeBack(reason, { wait = 0, code = GIVEN_UP } = {}) {
    const now = this.#now();
    // A server that lets one in only to close again is not to be hammered.
    if (this.#link.entered && now - this.#link.since > STABLE) this.#attempts = 0;
    this.#drop(code, reason.message);
    const { base, cap } = this.#options;
    const delay = wait + this.#world.Math.random() * Math.min(cap, base * 2 ** this.#attempts);
    this.#attempts += 1;
    this.#notBefore = now + wait;
    this.#retryAt = now + delay;
    this.#arm(delay, () => this.#attempt());
    this.#become(this.#awayState(), reason);
  }

  /** Doesn't wait for the backoff where there is reason to hope; for the server's own wish it does. */
  #hurry() {
    if (this.#link) this.#link.spared || this.#look(true);
    else if (this.#now() >= this.#notBefore) this.#attempt();
  }

  /** A page that is left is out of the room at once. Taken out of the browser's cache, it enters again. */
  #hidden() {
    if (this.#link) this.#comeBack(new ChatError('hidden', 'the page was left'), { code: LEFT });
  }

  #end(reason) {
    if (this.#state === 'closed') return;
    this.#drop(LEFT);
    for (const unlisten of this.#unlisten) unlisten();
    this.#retryAt = null;
    this.#become('closed', reason);
    for (const { reject } of this.#queue.values()) {
      reject(new ChatError('closed', `not acknowledged before the end: ${reason.message}`, { cause: reason }));
    }
    this.#queue.clear();
    this.#entering?.reject(reason);
  }

  /** Lets go of the link; whatever still comes from it is of no interest. */
  #drop(code, text = '') {
    const socket = this.#link?.socket;
    this.#link = null;
    this.#world.clearTimeout(this.#timer);
    socket?.close(code, text.slice(0, 40));
  }

  // ---- Silence -------------------------------------------------------------------------------
  /** Looks at time stamps: that the timer fired says nothing, browsers slow timers down and
   * suspend them. A late one may have overtaken frames that wait to be read, so they go first. */
  #look(late) {
    const link = this.#link;
    const left = this.#deadline(link) - this.#now();
    if (left > 0) {
      link.spared = false;
      this.#arm(left, (isLate) => this.#look(isLate));
    } else if (late && !link.spared) {
      link.spared = true;
      this.#arm(SECOND_LOOK, (isLate) => this.#look(isLate));
    } else {
      const text = link.entered ? 'nothing came from the server' : 'the server did not answer';
      this.#comeBack(new ChatError('timeout', text, { closeCode: GIVEN_UP }));
    }
  }

  /** An attempt has its time as a whole, a connection has it after each frame. */
  #deadline(link) {
    if (!link.entered) return link.began + this.#options.attemptTimeout;
    return link.heard + link.welcome.heartbeat.interval + link.welcome.heartbeat.timeout;
  }

  // ---- Frames --------------------------------------------------------------------------------
  #receive(data) {
    const link = this.#link;
    link.heard = this.#now();
    const frame = parse(data);
    switch (frame?.event) {
      case undefined: return;
      case 'heartbeat':
        if (link.entered) this.#online = frame.num;
        return this.#transmit({ event: 'heartbeat', message: 'pong' });
      case 'welcome': return this.#welcomed(link, frame);
      case 'entered': return this.#entered(link, frame);
      case 'noAuth': return this.#notAuthenticated(link, new ChatError('no_auth', String(frame.message)));
      case 'error': return this.#refused(link, frame);
      case 'ack': return this.#settle(frame.cid, (entry) => this.#acknowledged(entry, frame));
      case 'lagged': if (link.entered) this.#lagged(frame); return;
      default: if (link.entered) this.#relayed(link, frame);
    }
  }

  #welcomed(link, welcome) {
    link.welcome = welcome;
    this.#limits = welcome.limits;
    const frame = { event: 'enter', message: this.#options.name, roomId: this.#options.room };
    if (this.#position) frame.since = this.#position;
    if (this.#secrets.length) frame.resume = this.#secrets;
    this.#transmit(frame);
    if (welcome.resume) this.#secrets.push(welcome.resume);
    // The first is that of the last connection which is known to have had the seat: the best
    // there is, if none of the enters since has arrived. Otherwise one of the latest has it.
    if (this.#secrets.length > MOST_SECRETS) this.#secrets.splice(1, 1);
  }

  #entered(link, answer) {
    const before = this.#position;
    // What was sent in an earlier membership the server doesn't know any more.
    const isKnown = ({ member }) => member === null || (answer.resumed && member === answer.connection);
    Object.assign(link, { entered: answer, since: this.#now(), isKnown: [...this.#queue.values()].every(isKnown) });
    this.#secrets = link.welcome.resume ? [link.welcome.resume] : [];
    this.#position = { epoch: answer.epoch, seq: answer.recovered && before ? before.seq : answer.seq };
    if (!answer.recovered) this.#expected.clear();
    if (!answer.resumed) this.#enterSeq = answer.seq + 1;
    [this.#name, this.#id, this.#online, this.#refusals] = [answer.name, answer.connection, answer.num, 0];
    this.#arm(this.#deadline(link) - this.#now(), (late) => this.#look(late));
    const entering = this.#entering;
    this.#entering = null;
    if (this.#state !== 'online') this.#become('online', null);
    const isSame = before?.epoch === answer.epoch && before.seq === answer.seq;
    if (before && !answer.recovered && !isSame) this.#emit('gap', { before, after: this.position });
    entering?.resolve(this);
    this.#flush();
  }

  /** A frame of the room, or one from the host to this connection alone, which has no seq. */
  #relayed(link, frame) {
    const { seq } = frame;
    const isOfRoom = Number.isInteger(seq);
    let isOwn = false;
    if (isOfRoom) {
      const ahead = seq - this.#position.seq;
      if (ahead <= 0) return;
      if (ahead > 1) return this.#comeBack(new ChatError('gap', 'a frame is missing', { closeCode: GIVEN_UP }));
      this.#position.seq = seq;
      if (seq > link.entered.seq) this.#online = frame.num;
      isOwn = this.#isOwn(frame);
      this.#expected.delete(seq);
    }
    const info = { own: isOwn, replayed: isOfRoom && seq <= link.entered.seq };
    const type = frame.event === 'enter' || frame.event === 'out' ? frame.event : 'message';
    this.#emit(type, frame, info);
    if (!OWN_EVENTS.has(frame.event)) this.#emit(frame.event, frame, info);
    this.#flush(); // The replay may be at its end.
  }

  /** The next frames of the room were dropped, for this client reads too slowly. */
  #lagged({ missed }) {
    if (!Number.isInteger(missed) || missed < 1) return;
    const before = this.position;
    this.#position.seq += missed;
    for (const seq of this.#expected.keys()) if (seq <= this.#position.seq) this.#expected.delete(seq);
    this.#emit('gap', { before, after: this.position });
    this.#flush();
  }

  /** Nobody else knows a cid before the room has seen it; afterwards anybody may use it. A
   * message of one's own that comes from the room has arrived, whether acknowledged or not. */
  #isOwn({ event, cid, seq }) {
    if (event === 'enter') return seq === this.#enterSeq;
    return this.#settle(cid, ({ resolve }) => resolve({ seq })) || (cid && this.#expected.get(seq) === cid) || false;
  }

  #notAuthenticated(link, error) {
    if (link.entered) return this.#emit('error', error);
    this.#refusals += 1;
    const another = typeof this.#options.token === 'function' && this.#refusals < MOST_REFUSALS;
    return another ? this.#comeBack(error) : this.#end(error);
  }

  #refused(link, { code, message, cid }) {
    const error = new ChatError(String(code), String(message));
    if (!link.entered) {
      // The room may be full of one's own lost connection: that passes.
      return this.#entering || FINAL.has(code) ? this.#end(error) : this.#comeBack(error);
    }
    // Frames are answered in order: what couldn't be read is the oldest that is under way.
    const [[oldest, entry] = []] = this.#queue;
    const refused = cid ?? (UNREAD.has(code) && entry?.link === link ? oldest : undefined);
    if (!this.#settle(refused, ({ reject }) => reject(error))) this.#emit('error', error);
    this.#flush();
  }

  // ---- Sending -------------------------------------------------------------------------------
  #transmit(frame) {
    this.#link.socket.send(JSON.stringify(frame));
  }

  /** Sends what may be under way, each once on this connection and in order. If the server would
   * not know a message again, the replay is read first: it may be in there. */
  #flush() {
    const link = this.#link;
    if (!link?.entered || !(link.isKnown || this.#position.seq >= link.entered.seq)) return;
    let places = this.#limits.cids ?? Infinity;
    for (const [cid, entry] of this.#queue) {
      if (this.#isTooBig(entry)) {
        this.#settle(cid, ({ reject }) => reject(tooBig())); // This server takes less than the last.
        continue;
      }
      if (places === 0) return;
      places -= 1;
      if (entry.link === link) continue;
      Object.assign(entry, { link, member: this.#id });
      link.socket.send(entry.text);
    }
  }

  /** Takes the message out of the queue, if it is still there. */
  #settle(cid, settle) {
    const entry = this.#queue.get(cid);
    if (!entry) return false;
    this.#queue.delete(cid);
    settle(entry);
    return true;
  }

  #acknowledged({ resolve }, { cid, seq }) {
    // What the host dropped is acknowledged with the seq of the frame before it, which isn't it.
    if (seq > this.#position.seq && !this.#expected.has(seq)) this.#expected.set(seq, cid);
    resolve({ seq });
    this.#flush();
  }

  #isTooBig({ bytes }) {
    return bytes > (this.#limits.messageBytes ?? Infinity);
  }

  // ---- What the application sees -------------------------------------------------------------
  #become(state, reason) {
    this.#state = state;
    this.#reason = reason;
    this.#emit('state', { state, reason, retryAt: this.#retryAt });
  }

  #awayState() {
    return this.#world.navigator?.onLine === false ? 'offline' : 'reconnecting';
  }

  #showNetwork() {
    const isAway = this.#state === 'offline' || this.#state === 'reconnecting';
    if (isAway && this.#state !== this.#awayState()) this.#become(this.#awayState(), this.#reason);
  }

  /** A handler that throws harms nobody else; the error is reported as uncaught. */
  #emit(type, value, info) {
    for (const handler of [...this.#handlers.get(type) ?? []]) {
      try { handler(value, info); } catch (error) { queueMicrotask(() => { throw error; }); }
    }
  }

  // ---- The world -----------------------------------------------------------------------------
  /** Monotonic: a clock that is set doesn't matter. */
  #now() { return this.#world.performance.now(); }

  /** Sets the one timer; its task is told whether it came late. */
  #arm(delay, task) {
    this.#world.clearTimeout(this.#timer);
    const due = this.#now() + delay;
    this.#timer = this.#world.setTimeout(() => task(this.#now() - due > LATE), Math.min(delay, LONGEST_TIMER));
  }

  #listen(target, type, handler) {
    target?.addEventListener?.(type, handler);
    this.#unlisten.push(() => target?.removeEventListener?.(type, handler));
  }
}

function parse(data) {
  try {
    const frame = JSON.parse(data);
    return typeof frame?.event === 'string' ? frame : null;
  } catch { return null; }
}

function tooBig() {
  return new ChatError('too_big', 'the message is bigger than the server takes');
}
