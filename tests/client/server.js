// A small model of the server, which speaks the protocol for any number of rooms. Time passes only in the test.

import assert from 'node:assert/strict';
import { Directs } from './server-directs.js';
import { Room } from './server-room.js';
import { LIMITS, NO_RATES, settled } from './world.js';

/** Numbers from 0 to 1 that are the same for the same seed (mulberry32). */
export function generator(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A server for one client; others speak through `publish`. */
export class Server {
  rooms = new Map();
  /** By member id: `{ member, token, link, rooms, cids, directs, directCids }`; `rooms` has names by room id. */
  sessions = new Map();
  epoch = 'E';
  connections = 0;
  /** Returns the code with which an enter is refused, or nothing. */
  refuse = () => undefined;
  /** Returns the code with which a member is removed that returns to a room of its session, or nothing. */
  remove = () => undefined;
  /** Returns the code with which a state or a direct message is refused, or nothing. */
  refuseState = () => undefined;
  refuseDirect = () => undefined;
  /** The direct messages of the client, in order. */
  received = [];

  /** `user` is the client's user, if it is authenticated by its handshake; `presence` has the settings of rooms, and
   * `keptDirects` is the number of direct frames that a session keeps. */
  constructor({ cids = LIMITS.cids, rooms = LIMITS.rooms, rates = NO_RATES, resumes = true, needsToken = false, ...rest } = {}) {
    const { user = null, presence = {}, keptDirects = 100 } = rest;
    Object.assign(this, { cids, maxRooms: rooms, rates, resumes, needsToken, user, presence, keptDirects });
  }

  /** Everything is forgotten, and the rooms begin a new epoch. */
  restart(epoch) {
    this.epoch = epoch;
    this.rooms.clear();
    this.sessions.clear();
  }

  room(id) {
    if (!this.rooms.has(id)) this.rooms.set(id, new Room(id, this.epoch, this.presence));
    return this.rooms.get(id);
  }

  // ---- Rooms -----------------------------------------------------------------------------------

  /** Publishes a frame in a room, and returns its seq. */
  publish(id, frame) { return this.room(id).publish(frame); }

  say(id, message) { return this.publish(id, { event: 'message', message, name: 'bob', member: 'b' }); }

  /** Another member enters, which has no connection. */
  enterOther(id, member, profile) {
    this.room(id).add({ member, rooms: new Map([[id, profile.name]]) }, profile);
    this.room(id).announce({ member });
  }

  /** The member is out of a room. */
  out(session, id) {
    session.rooms.delete(id);
    session.link?.subscribed.delete(id);
    session.link?.lags.delete(id);
    this.room(id).remove(session.member);
  }

  /** Removes the client from a room. */
  removeFrom(id, code, message = 'so it is') {
    const session = [...this.sessions.values()].find(({ rooms }) => rooms.has(id));
    if (session.link) this.room(id).catchUp(session.link);
    session.link?.out.push({ event: 'left', roomId: id, code, message });
    this.out(session, id);
  }

  /** The resume window of all lost connections is over. */
  expire() {
    for (const session of [...this.sessions.values()]) if (!session.link) this.#end(session);
  }

  #end(session) {
    this.sessions.delete(session.member);
    for (const id of [...session.rooms.keys()]) this.out(session, id);
  }

  // ---- Connections -----------------------------------------------------------------------------

  open(link) {
    const id = String(this.connections += 1);
    Object.assign(link, { id, token: `token ${id}`, session: null, subscribed: new Set(), lags: new Map(), isAuthenticated: !this.needsToken });
    if (this.user !== null) this.#begin(link);
    link.out.push({
      event: 'welcome', connection: id, heartbeat: { interval: 1e9, timeout: 1e9 }, limits: { ...LIMITS, cids: this.cids, rooms: this.maxRooms },
      rates: this.rates, history: true, resumeWindow: 10_000, ...(this.resumes && { resume: link.token }),
    });
  }

  lost(link) {
    const { session } = link;
    if (!session || session.link !== link) return;
    session.link = null;
    if (!this.resumes || (session.rooms.size === 0 && this.user === null) || link.socket.closedWith === 1000) this.#end(session);
  }

  receive(link, frame) {
    if (frame.event === 'heartbeat') {
      if (frame.message === 'ping') link.out.push({ event: 'heartbeat', message: 'pong' });
      return;
    }
    if (frame.event === 'auth') {
      if (!this.needsToken) return;
      link.isAuthenticated = true;
      link.out.push({ event: 'authenticated' });
      return;
    }
    if (!link.isAuthenticated) return link.out.push({ event: 'noAuth', message: 'authenticate first' });
    // A session of which another connection took over has ended here.
    if (link.session && link.session.link !== link) return;
    switch (frame.event) {
      case 'resume': return this.#resume(link, frame);
      case 'enter': return this.#enter(link, frame);
      case 'leave': return this.#leave(link, frame);
      case 'members': return this.#members(link, frame);
      case 'state': return this.#state(link, frame);
      case 'direct': return this.#direct(link, frame);
      default: return this.#message(link, frame);
    }
  }

  #begin(link) {
    link.session ??= {
      member: link.id, token: link.token, link, rooms: new Map(), cids: new Map(),
      directs: new Directs(this.keptDirects), directCids: new Map(),
    };
    this.sessions.set(link.session.member, link.session);
  }

  #resume(link, { message: tokens, direct = 0, member }) {
    assert.ok(tokens.length <= 8 && !tokens.includes(link.token));
    if (link.session?.rooms.size > 0) {
      link.out.push({ event: 'error', code: 'bad_shape', message: 'a session can be resumed only before a room is entered' });
      return;
    }
    const session = [...this.sessions.values()].find(({ token }) => tokens.includes(token));
    const resumed = ({ directs }, number, more) => {
      const missed = directs.after(number);
      const before = (missed[0]?.direct ?? directs.latest + 1) - 1;
      link.out.push({ event: 'resumed', ...more, ...(before > 0 && { direct: before }) }, ...missed);
    };
    if (!session && link.session) return resumed(link.session, 0, { rooms: [] });
    if (!session) return link.out.push({ event: 'resumed', rooms: [] });
    if (link.session) this.sessions.delete(link.session.member);
    Object.assign(session, { link, token: link.token });
    link.session = session;
    const rooms = [...session.rooms].map(([roomId, name]) => ({ roomId, name }));
    resumed(session, member === session.member ? direct : 0, { member: session.member, rooms });
  }

  #enter(link, { message: name, roomId: id, since, last, state }) {
    assert.equal(typeof id, 'string');
    this.#begin(link);
    const { session } = link;
    const refuse = (code, more) => link.out.push({ event: 'error', code, message: 'no', roomId: id, ...more });
    const isBack = session.rooms.has(id) && !link.subscribed.has(id);
    const code = isBack ? this.remove(id) : undefined;
    if (code) return this.removeFrom(id, code);
    const resumed = session.rooms.get(id) === name;
    if (!resumed) {
      const refusal = this.refuse(id);
      if (refusal) return refuse(...[refusal].flat());
      if (!session.rooms.has(id) && session.rooms.size >= this.maxRooms) return refuse('too_many_memberships');
      if (session.rooms.has(id)) this.out(session, id);
    }
    const room = this.room(id);
    if (resumed) room.catchUp(link);
    const page = room.page();
    if (!resumed) room.add(session, { name, ...(this.user !== null && { user: this.user }), ...(state !== undefined && { state }) });
    session.rooms.set(id, name);
    const seq = room.log.length;
    const first = since?.epoch === room.epoch ? since.seq : 0;
    const replayed = since ? seq - first : 0;
    const history = last && !since ? room.log.filter(({ event }) => event === 'message').slice(-last) : [];
    link.out.push({
      event: 'entered', roomId: id, name, member: session.member, epoch: room.epoch, seq, num: room.num, resumed, ...page,
      recovered: since?.epoch === room.epoch, replayed, ...(last && !since && { history: history.length }),
    });
    link.out.push(...history, ...room.log.slice(seq - replayed));
    link.subscribed.add(id);
    if (!resumed) room.announce(session);
  }

  #leave(link, { roomId: id }) {
    if (link.session?.rooms.has(id)) {
      this.room(id).catchUp(link);
      this.out(link.session, id);
    }
    link.out.push({ event: 'left', roomId: id });
  }

  #members(link, { roomId: id, after, ...more }) {
    assert.deepEqual(more, { event: 'members' });
    if (!link.subscribed.has(id)) return link.out.push({ event: 'error', code: 'not_entered', message: 'enter first', roomId: id });
    const room = this.room(id);
    room.catchUp(link);
    link.out.push({ event: 'members', roomId: id, seq: room.log.length, num: room.num, ...room.page(Number(after ?? 0)) });
  }

  #state(link, { roomId: id, state }) {
    const isIn = link.session?.rooms.has(id);
    const code = isIn ? this.refuseState(id, state) : 'not_entered';
    if (code) return link.out.push({ event: 'error', code, message: 'no', roomId: id });
    this.room(id).change(link.session.member, { state }, link);
  }

  /** Sends a frame to all sessions of the client's user. Returns the number of connections. */
  sendToUser(frame) {
    let reached = 0;
    for (const { link, directs } of this.sessions.values()) {
      const numbered = directs.add(frame);
      link?.out.push(numbered);
      if (link) reached += 1;
    }
    return reached;
  }

  #direct(link, { event, to, cid, ...frame }) {
    assert.deepEqual([typeof to, frame.roomId], ['string', undefined]);
    const { session } = link;
    let reached = session?.directCids.get(cid);
    if (reached === undefined) {
      const code = session ? this.refuseDirect(frame) : 'denied';
      if (code) return link.out.push({ event: 'error', message: 'no', cid, ...(typeof code === 'string' ? { code } : code) });
      this.received.push({ to, ...frame });
      reached = to === this.user ? this.sendToUser({ event, ...frame, from: { user: this.user }, cid }) : 0;
      session.directCids.set(cid, reached);
      if (session.directCids.size > this.cids) session.directCids.delete(session.directCids.keys().next().value);
    }
    link.out.push({ event: 'ack', cid, reached });
  }

  #message(link, { roomId: id, cid, ...frame }) {
    assert.equal(typeof id, 'string');
    const { session } = link;
    const known = session?.cids.get(cid);
    if (known) return link.out.push({ event: 'ack', cid, seq: known });
    const name = session?.rooms.get(id);
    if (name === undefined) return link.out.push({ event: 'error', code: 'not_entered', message: 'enter first', cid });
    const seq = this.publish(id, { ...frame, cid, name, member: session.member });
    session.cids.set(cid, seq);
    if (session.cids.size > this.cids) session.cids.delete(session.cids.keys().next().value);
    link.out.push({ event: 'ack', cid, seq });
  }
}

/** The two directions of each connection, as far as their frames have come. */
export class Network {
  links = new Map();
  /** Whether attempts to connect succeed. */
  isUp = true;

  constructor(world, server) { Object.assign(this, { world, server }); }

  /** Sees to it that everything that the client has begun takes its way. */
  adopt() {
    for (const socket of this.world.sockets) {
      if (this.links.has(socket)) continue;
      const link = { socket, in: [], out: [] };
      socket.onsent = (frame) => link.in.push(frame);
      socket.onclosedbyclient = () => this.cut(link);
      this.links.set(socket, link);
    }
  }

  get open() {
    this.adopt();
    return [...this.links.values()].filter(({ socket }) => socket.readyState < 3);
  }

  /** The link of the newest connection. */
  get link() { return this.open.at(-1); }

  connect(link) {
    if (!this.isUp) return link.socket.end();
    link.socket.accept();
    this.server.open(link);
  }

  /** Everything arrives that is under way. */
  async pump() {
    for (let isBusy = true; isBusy;) {
      isBusy = false;
      await settled();
      for (const link of this.open) {
        if (link.socket.readyState === 0) {
          this.connect(link);
          isBusy = true;
        }
        for (let frame; (frame = link.in.shift());) {
          this.server.receive(link, frame);
          isBusy = true;
        }
        for (let frame; link.socket.readyState === 1 && (frame = link.out.shift());) {
          link.socket.say(frame);
          isBusy = true;
        }
      }
    }
  }

  /** The connection is lost. So many of the frames that are under way to the server still arrive. */
  cut(link = this.link, arriving = Infinity) {
    for (const frame of link.in.splice(0).slice(0, arriving)) this.server.receive(link, frame);
    this.server.lost(link);
    if (link.socket.readyState < 2) link.socket.end();
    link.socket.readyState = 3;
  }
}
