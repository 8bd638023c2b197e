// What stands in for the browser: a clock that only moves when told, sockets whose other end is the
// test, and a page that can be hidden, frozen and cut off.

import assert from 'node:assert/strict';
import { connect } from '../../src/browser/chat-rooms.js';

export const PROTOCOL = 'chat-rooms.v1';

/** Lets everything run that has been resolved. */
export const settled = () => new Promise((resolve) => { setImmediate(resolve); });

export class World extends EventTarget {
  sockets = [];
  location = { href: 'http://chat.test/page?x' };
  navigator = { onLine: true };
  document = Object.assign(new EventTarget(), { hidden: false });
  crypto = globalThis.crypto;
  /** Of full jitter, the whole. */
  random = 1;
  Math = { random: () => this.random };
  performance = { now: () => this.#now };
  #now = 1_000;
  #timers = new Map();
  #timerIds = 0;

  constructor() {
    super();
    const world = this;
    this.WebSocket = class extends FakeSocket {
      constructor(url, protocols) {
        super(url, protocols);
        world.sockets.push(this);
      }
    };
  }

  setTimeout(task, delay) {
    // Browsers have 31 bits for a delay, and take none for one that is longer.
    this.#timers.set(this.#timerIds += 1, { task, at: this.#now + (delay > 0x7fff_ffff ? 0 : delay) });
    return this.#timerIds;
  }

  clearTimeout(id) {
    this.#timers.delete(id);
  }

  get now() { return this.#now; }

  /** How many timers run. */
  get timers() { return this.#timers.size; }

  /** Time passes, and every timer fires when it is due. */
  async pass(ms) {
    const end = this.#now + ms;
    for (;;) {
      await settled();
      const [id, next] = [...this.#timers].sort(([, a], [, b]) => a.at - b.at)[0] ?? [];
      if (!next || next.at > end) break;
      this.#now = Math.max(this.#now, next.at);
      this.#timers.delete(id);
      next.task();
    }
    this.#now = end;
    await settled();
  }

  /** Time passes, but nothing runs: the tab is frozen or the machine sleeps. What is due then
   * fires late, and before any frame that has come meanwhile is read. */
  async sleep(ms) {
    this.skip(ms);
    await this.pass(0);
  }

  /** The same up to the moment before the late timers. */
  skip(ms) {
    this.#now += ms;
  }

  tell(type, target = this, properties = {}) {
    target.dispatchEvent(Object.assign(new Event(type), properties));
  }

  /** The newest socket. */
  get socket() { return this.sockets.at(-1); }

  /** How many sockets aren't closed by either side. */
  get live() { return this.sockets.filter(({ readyState }) => readyState < 2).length; }
}

class FakeSocket {
  readyState = 0;
  protocol = '';
  bufferedAmount = 0;
  sent = [];
  /** With what the client has closed it. */
  closedWith = null;

  constructor(url, protocols) {
    this.url = url;
    this.offered = protocols;
  }

  send(text) {
    if (this.readyState === 0) throw new Error('not open yet');
    if (this.readyState > 1) return;
    this.sent.push(JSON.parse(text));
    this.onsent?.(this.sent.at(-1));
  }

  close(code, reason) {
    if (new TextEncoder().encode(reason).length > 123) throw new Error('the reason is too long');
    if (this.readyState > 1) return;
    this.closedWith = code;
    this.readyState = 2;
    this.onclosedbyclient?.(code);
  }

  // ---- The other end ----
  accept(protocol = PROTOCOL) {
    this.readyState = 1;
    this.protocol = protocol;
    this.onopen({});
  }

  say(frame) {
    this.sayText(JSON.stringify(frame));
  }

  sayText(data) {
    this.onmessage({ data });
  }

  end(code = 1006, reason = '') {
    if (code === 1006) this.fail();
    this.readyState = 3;
    this.onclose({ code, reason });
  }

  /** An error without a handler is thrown, as by an event emitter. */
  fail() {
    if (!this.onerror) throw new Error('an error that nobody handles');
    this.onerror({});
  }

  /** What the client has said since it was last asked; answers to heartbeats are left out. */
  take() {
    return this.sent.splice(0).filter(({ event }) => event !== 'heartbeat');
  }
}

export const LIMITS = { messageBytes: 65_536, nameBytes: 128, roomIdBytes: 128, cidBytes: 64, cids: 128, rooms: 64 };
export const RATES = { messages: 100, bytes: 262_144, burst: 2 };
export const NO_RATES = { messages: null, bytes: null, burst: 2 };

export function welcome(connection, settings = {}) {
  return {
    event: 'welcome', connection, resume: `token ${connection}`, heartbeat: { interval: 1000, timeout: 1000 }, limits: LIMITS,
    rates: RATES, history: true, resumeWindow: 10_000, ...settings,
  };
}

export function entered(seq, settings = {}) {
  return {
    event: 'entered', roomId: 'tea', name: 'ann', member: '1', epoch: 'E', seq, num: 1, resumed: false, recovered: false,
    ...settings,
  };
}

/** A message of another member. */
export const said = (seq, message, more = {}) => ({ event: 'message', message, roomId: 'tea', name: 'bob', num: 2, member: 'b', seq, ...more });
/** A message of the client under test. */
export const own = (seq, message, cid, more = {}) => said(seq, message, { name: 'ann', member: '1', cid, ...more });
export const came = (seq, member, more = {}) => ({ event: 'enter', message: 'ann', roomId: 'tea', name: 'ann', num: 1, member, seq, ...more });
export const left = (seq, member, more = {}) => ({ event: 'out', name: 'ann', num: 0, member, roomId: 'tea', seq, ...more });
export const ping = () => ({ event: 'heartbeat', message: 'ping' });

/** Begins to enter. `heard` collects what the application is told, `outcome` how `connect` ends. */
export function begin(world, options = {}) {
  const heard = [];
  const tell = (type) => (value, info) => heard.push({ type, value, info });
  const types = ['message', 'enter', 'out', 'gap', 'overflow', 'error'];
  const on = Object.fromEntries(types.map((type) => [type, tell(type)]));
  const states = [];
  on.state = ({ state, reason }) => states.push(reason ? `${state}: ${reason.code}` : state);
  const promise = connect('/chat', { name: 'ann', room: 'tea', global: world, on, ...options });
  const outcome = { error: null, room: null };
  promise.then((room) => { outcome.room = room; }, (error) => { outcome.error = error; });
  return { promise, outcome, heard, states };
}

/** Has entered a room as its first and only member, whose enter has come. */
export async function enter(world, options = {}, settings = {}) {
  const begun = begin(world, options);
  await settled();
  world.socket.accept();
  world.socket.say(welcome('1', settings));
  world.socket.say(entered(0));
  const room = await begun.promise;
  world.socket.say(came(1, '1'));
  begun.heard.length = 0;
  world.socket.take();
  return { ...begun, room };
}

/** Time passes, with a heartbeat every second. */
export async function beats(world, seconds) {
  for (let n = 0; n < seconds; n += 1) {
    await world.pass(1_000);
    world.socket.say(ping(1));
  }
}

/** Waits for the next attempt, unless it has begun. */
export async function attempted(world) {
  while (world.socket.readyState !== 0) await world.pass(100);
}

/** Says the welcome, and returns what the client sends then: `resume` has the tokens, `enter` the enter. */
export async function welcomed(world, connection, settings = {}) {
  const { socket } = world;
  socket.say(welcome(connection, settings));
  const frames = socket.take();
  // Where the buckets are empty, the client waits.
  while (!frames.some(({ event }) => event === 'enter')) {
    await world.pass(10);
    socket.say(ping());
    frames.push(...socket.take());
  }
  const requests = frames.filter(({ event }) => event === 'resume' || event === 'enter');
  assert.ok(requests.findLastIndex(({ event }) => event === 'resume') <= 0, 'it resumes before it enters');
  const of = (wanted) => requests.find(({ event }) => event === wanted);
  return { resume: of('resume')?.message, enter: of('enter') };
}

/** Comes back on the next socket, whose other end may be served. Returns what it has sent, as `welcomed` does. */
export async function comeBack(world, connection, answer, settings = {}, serve = () => {}) {
  await attempted(world);
  serve(world.socket);
  world.socket.accept();
  const sent = await welcomed(world, connection, settings);
  if (sent.resume) {
    const isResumed = answer.event === 'entered' && answer.resumed;
    world.socket.say({ event: 'resumed', ...(isResumed && { member: answer.member }), rooms: isResumed ? [{ roomId: 'tea', name: 'ann' }] : [] });
  }
  world.socket.say(answer);
  await settled();
  return sent;
}
