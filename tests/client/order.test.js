// Random cuts, delays and losses against a small model of the server: every message arrives once
// and in order, and every member sees the same.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { generator } from './server.js';
import { begin, LIMITS, NO_RATES, settled, World } from './world.js';

const ROUNDS = Number(process.env.CHAT_ROUNDS ?? 500);
const MESSAGES = 40;

/** One room with its history, and one session of the client under test. */
class Server {
  log = []; // Frames, by seq - 1.
  refusals = 0;
  expiries = 0; // And warnings of them.
  tokens = new Map(); // By token, the connection that it came on last.
  cids = new Map(); // Of the session: cid to seq, as many as `remembers`.
  session = null; // { token, member, link }
  entries = 0;
  connections = 0;

  constructor(random, { cids, resumes, needsTokens }) {
    Object.assign(this, { random, remembers: cids, resumes, needsTokens });
  }

  publish(frame) {
    this.log.push({ ...frame, num: 1, roomId: 'tea', seq: this.log.length + 1 });
    if (this.session?.link?.isInRoom) this.session.link.out.push(this.log.at(-1));
    return this.log.length;
  }

  open(link) {
    link.token = `token ${this.connections += 1}`;
    link.out.push({
      event: 'welcome', connection: link.token, heartbeat: { interval: 1e9, timeout: 1e9 }, limits: { ...LIMITS, cids: this.remembers },
      rates: NO_RATES, history: true, resumeWindow: 10_000, ...(this.resumes && { resume: link.token }),
    });
  }

  receive(link, frame) {
    if (frame.event === 'heartbeat') return;
    if (frame.event === 'auth') return this.authenticate(link, frame);
    if (this.needsTokens && !link.isAuthenticated) {
      link.out.push({ event: 'noAuth', message: 'authenticate first' });
      return;
    }
    if (frame.event === 'resume') return this.resume(link, frame);
    if (frame.event === 'enter') return this.enter(link, frame);
    assert.equal(frame.roomId, 'tea');
    if (this.session?.link !== link) {
      link.out.push({ event: 'error', code: 'not_entered', message: 'enter first', cid: frame.cid });
      return;
    }
    const known = this.cids.get(frame.cid);
    const seq = known ?? this.log.length + 1;
    link.out.push({ event: 'ack', cid: frame.cid, seq });
    if (known) return;
    this.cids.set(frame.cid, seq);
    if (this.cids.size > this.remembers) this.cids.delete(this.cids.keys().next().value);
    this.publish({ event: 'message', message: frame.message, cid: frame.cid, name: 'ann', member: this.session.member });
    // Somebody else repeats every cid that the room has seen.
    if (this.random() < 0.1) this.publish({ event: 'message', message: 'x', cid: frame.cid, name: 'bob', member: 'b' });
  }

  /** The client gives up after three refusals in a row. */
  authenticate(link, { message: token }) {
    assert.ok(!this.tokens.has(token) || link.token !== this.tokens.get(token), 'each token once on a connection');
    this.tokens.set(token, link.token);
    const isAccepted = this.refusals === 2 || this.random() >= 0.2;
    if (!isAccepted) this.refusals += 1;
    link.isAuthenticated ||= isAccepted;
    link.out.push(isAccepted ? { event: 'authenticated' } : { event: 'noAuth', message: 'refused' });
  }

  resume(link, { message: tokens }) {
    assert.equal(this.session?.link === link, false, 'before it enters');
    const isResumed = this.session !== null && tokens.includes(this.session.token);
    if (isResumed) this.session = { ...this.session, token: link.token, link };
    link.out.push({ event: 'resumed', ...(isResumed && { member: this.session.member }), rooms: isResumed ? [{ roomId: 'tea', name: 'ann' }] : [] });
  }

  enter(link, { roomId, since }) {
    assert.equal(roomId, 'tea');
    const resumed = this.session?.link === link;
    if (!resumed && this.session) this.expire();
    if (!resumed) this.cids.clear();
    const member = resumed ? this.session.member : `member ${this.entries += 1}`;
    const seq = this.log.length;
    const replayed = since ? seq - since.seq : 0;
    link.out.push({
      event: 'entered', roomId: 'tea', name: 'ann', member, epoch: 'E', seq, num: 1, resumed, recovered: Boolean(since), replayed,
    });
    if (since) link.out.push(...this.log.slice(since.seq));
    this.session = { token: link.token, member, link };
    link.isInRoom = true;
    if (resumed) return;
    this.publish({ event: 'enter', message: 'ann', name: 'ann', member });
  }

  lost(link) {
    if (this.session?.link !== link) return;
    if (this.resumes) this.session.link = null;
    else this.expire();
  }

  /** The member is out of the room, and its connection stays. */
  putOut() {
    const { link } = this.session;
    this.expire();
    link.out.push({ event: 'left', roomId: 'tea', code: 'internal', message: 'enter again' });
  }

  /** The member's token expires soon, or has expired: then its connection is closed, or waits for another one. */
  expireToken() {
    const { link } = this.session;
    this.expiries += 1;
    if (this.random() < 0.5) return link.out.push({ event: 'expiring', in: 100 });
    this.expire();
    link.out.push({ event: 'left', roomId: 'tea', code: 'token_expired', message: 'the token has expired' });
    link.out.push({ event: 'noAuth', message: 'the token has expired' });
    link.isAuthenticated = false;
    if (this.random() < 0.5) link.closesWith = 4504;
  }

  /** The resume window is over. */
  expire() {
    const { member, link } = this.session;
    this.session = null;
    if (link) link.isInRoom = false;
    this.publish({ event: 'out', name: 'ann', member });
  }
}

/** The two directions of each connection, as far as their frames have come. */
class Network {
  links = new Map();

  constructor(world, server, random) {
    Object.assign(this, { world, server, random });
  }

  /** Sees to it that everything that the client has begun takes its way. */
  adopt() {
    for (const socket of this.world.sockets) {
      if (this.links.has(socket)) continue;
      const link = { socket, in: [], out: [], token: null, isAuthenticated: false, isInRoom: false, closesWith: null };
      socket.onsent = (frame) => link.in.push(frame);
      socket.onclosedbyclient = () => this.cut(link);
      this.links.set(socket, link);
    }
  }

  step() {
    this.adopt();
    const links = [...this.links.values()].filter(({ socket }) => socket.readyState < 3);
    const link = links[Math.floor(this.random() * links.length)];
    if (!link) return;
    const chance = this.random();
    if (link.socket.readyState === 0) {
      link.socket.accept();
      this.server.open(link);
    } else if (chance < 0.03) {
      this.cut(link);
    } else if (link.closesWith !== null) {
      this.close(link);
    } else if (chance < 0.5) {
      const frame = link.in.shift();
      if (frame) this.server.receive(link, frame);
    } else {
      const frame = link.out.shift();
      if (frame && link.socket.readyState === 1) link.socket.say(frame);
    }
  }

  /** The server has closed: it reads nothing more, and what it has said still arrives. */
  close(link) {
    const frame = link.out.shift();
    if (frame && link.socket.readyState === 1) return link.socket.say(frame);
    if (link.socket.readyState < 2) link.socket.end(link.closesWith, 'the token has expired');
    link.socket.readyState = 3;
  }

  /** Some of what is under way to the server still arrives, and what is under way from it doesn't. */
  cut(link) {
    const arrive = link.closesWith === null ? Math.floor(this.random() * (link.in.length + 1)) : 0;
    for (const frame of link.in.splice(0).slice(0, arrive)) this.server.receive(link, frame);
    this.server.lost(link);
    if (link.socket.readyState < 2) link.socket.end();
    link.socket.readyState = 3;
  }
}

async function run(seed, { resumes, expires, putsOut, needsTokens }) {
  const random = generator(seed);
  const world = new World();
  world.random = random();
  const server = new Server(random, { cids: 1 + Math.floor(random() * 6), resumes, needsTokens });
  const network = new Network(world, server, random);
  let asked = 0;
  const token = needsTokens && (async () => `T${asked += 1}`);
  const { outcome, heard } = begin(world, { maxQueue: MESSAGES, backoff: { base: 50, cap: 400 }, token });
  const settledWith = [];
  for (let sent = 0, steps = 0; settledWith.filter(Boolean).length < MESSAGES; steps += 1) {
    assert.ok(steps < 20_000, 'it never comes to an end');
    network.step();
    if (outcome.room && sent < MESSAGES && random() < 0.2) {
      const n = sent;
      outcome.room.send(n).then(({ seq }) => { settledWith[n] = seq; }, (error) => { settledWith[n] = error; });
      sent += 1;
    }
    if (random() < 0.05) server.publish({ event: 'message', message: 'x', name: 'bob', member: 'b' });
    if (expires && server.session && !server.session.link && random() < 0.1) server.expire();
    if (putsOut && server.session?.link && random() < 0.02) server.putOut();
    if (needsTokens && server.session?.link && random() < 0.02) server.expireToken();
    if (random() < 0.2) await world.pass(Math.floor(random() * 400));
    await settled();
  }
  // What is still under way to the client.
  for (let steps = 0; outcome.room.position.seq < server.log.length || outcome.room.state !== 'online'; steps += 1) {
    assert.ok(steps < 20_000, 'it is never online again');
    network.step();
    await world.pass(100);
  }
  assert.ok(asked <= world.sockets.length + server.refusals + server.expiries, 'no token too many');
  return { server, heard, settledWith };
}

async function check(seed, settings) {
  const { server, heard, settledWith } = await run(seed, settings);
  const own = server.log.filter(({ name, event }) => name === 'ann' && event === 'message');
  assert.deepEqual(own.map(({ message }) => message), Array.from({ length: MESSAGES }, (_, n) => n), 'once each, in order');
  assert.deepEqual(settledWith, own.map(({ seq }) => seq), 'each was told its place');
  const isRefusedRenewal = ({ type, value }) => type === 'error' && value.code === 'no_auth';
  const told = heard.filter((event) => !isRefusedRenewal(event)).map(({ value }) => value);
  assert.deepEqual(told, server.log.slice(server.log.length - told.length), 'the room as it was, without a gap');
  // An enter whose answer was lost may have gone by before the first that was answered.
  assert.ok(told[0].seq <= own[0].seq);
  const known = heard.filter(({ info, type }) => type === 'message' && info.own).map(({ value }) => value.message);
  assert.deepEqual(known, own.map(({ message }) => message), 'its own messages are known');
  return server;
}

for (const [what, settings] of Object.entries({
  'sessions are resumed': { resumes: true, expires: false },
  'sessions expire': { resumes: true, expires: true },
  'there is no resumption': { resumes: false, expires: false },
  'members are put out': { resumes: true, expires: true, putsOut: true },
  'tokens expire': { resumes: true, expires: true, needsTokens: true },
})) {
  test(`messages arrive once and in order where ${what}`, async () => {
    let entries = 0;
    for (let seed = 1; seed <= ROUNDS / 5; seed += 1) {
      const server = await check(seed, settings).catch((error) => {
        error.message = `seed ${seed}: ${error.message}`;
        throw error;
      });
      if (settings.resumes && !settings.expires) assert.equal(server.entries, 1, `seed ${seed}: the room saw one enter`);
      entries += server.entries;
    }
    if (settings.expires || !settings.resumes) assert.ok(entries > ROUNDS * 2 / 5, 'sessions end now and then');
  });
}
