// Random joins, leaves, cuts and removals against the model of the server: in each room every message arrives once and in
// order, and in the end the client is in the rooms that the application wants, and in no other.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from '../../src/browser/chat-rooms.js';
import { generator, Network, Server } from './server.js';
import { settled, World } from './world.js';

const ROUNDS = Number(process.env.CHAT_ROUNDS ?? 300);
const ROOMS = ['tea', 'coffee', 'milk', 'water'];
const STEPS = 400;

/** One membership, as the application sees it. */
class Talk {
  room = null;
  isOver = false;
  frames = [];
  gaps = 0;
  /** By number, what the application was told of its message. */
  outcomes = new Map();

  constructor(chat, id, options) {
    this.id = id;
    this.giveUp = new AbortController();
    const on = { '*': (frame, info) => this.frames.push({ frame, info }), gap: () => { this.gaps += 1; } };
    chat.join(id, { name: 'ann', on, signal: this.giveUp.signal, ...options })
      .then((room) => { this.room = room; }, (error) => { this.error = error; });
  }

  send(n) {
    this.outcomes.set(n, null);
    this.room.send(n).then(({ seq }) => this.outcomes.set(n, seq), (error) => this.outcomes.set(n, error));
  }

  end() {
    this.isOver = true;
    if (this.room) this.room.leave();
    else this.giveUp.abort();
  }

  get isDone() { return this.isOver || (this.room?.state === 'online' && ![...this.outcomes.values()].includes(null)); }
}

class Run {
  world = new World();
  talks = [];
  sent = 0;

  constructor(seed, settings) {
    this.random = generator(seed);
    this.settings = settings;
    this.world.random = this.random();
    this.server = new Server({ cids: 1 + Math.floor(this.random() * 6), resumes: settings.resumes });
    this.network = new Network(this.world, this.server);
  }

  pick(items) { return items[Math.floor(this.random() * items.length)]; }

  /** A frame takes its way, or a connection is lost. */
  step() {
    const link = this.pick(this.network.open);
    if (!link) return;
    const chance = this.random();
    if (link.socket.readyState === 0) return this.network.connect(link);
    if (chance < 0.02) return this.network.cut(link, Math.floor(this.random() * (link.in.length + 1)));
    const frame = chance < 0.5 ? link.in.shift() : this.next(link.out);
    if (!frame) return;
    if (chance < 0.5) this.server.receive(link, frame);
    else if (link.socket.readyState === 1) link.socket.say(frame);
  }

  /** Takes a frame that no earlier one of the same room has to precede: between rooms there is no order. */
  next(frames) {
    const rooms = new Set(frames.map(({ roomId }) => roomId));
    const room = this.pick([...rooms]);
    const index = frames.findIndex(({ roomId }) => roomId === room);
    return index < 0 ? undefined : frames.splice(index, 1)[0];
  }

  act() {
    const current = this.talks.filter(({ isOver }) => !isOver);
    const chance = this.random();
    if (chance < 0.05) {
      const id = this.pick(ROOMS);
      if (!current.some((talk) => talk.id === id)) this.talks.push(new Talk(this.chat, id, { history: this.pick([0, 3]) }));
    } else if (chance < 0.08) {
      this.pick(current)?.end();
    } else if (chance < 0.25) {
      const talk = this.pick(current.filter(({ room }) => room));
      if (talk) talk.send(this.sent += 1);
    } else if (chance < 0.35) {
      this.server.say(this.pick(ROOMS), 'x');
    } else if (chance < 0.37 && this.settings.expires) {
      this.server.expire();
    } else if (chance < 0.39 && this.settings.removes) {
      const ids = [...this.server.sessions.values()].flatMap(({ rooms }) => [...rooms.keys()]);
      if (ids.length > 0) this.server.removeFrom(this.pick(ids), this.pick(['internal', 'denied']));
    }
    for (const { room } of current) if (room?.reason?.code === 'denied' && this.random() < 0.1) room.enter();
  }

  async play() {
    const opening = connect('/chat', { global: this.world, backoff: { base: 50, cap: 400 } });
    await this.network.pump();
    this.chat = await opening;
    for (let n = 0; n < STEPS; n += 1) {
      this.step();
      this.step();
      this.act();
      if (this.random() < 0.2) await this.world.pass(Math.floor(this.random() * 200));
      await settled();
    }
    // What is still under way arrives, and sessions that were lost end.
    await this.network.pump();
    for (let n = 0; this.chat.state !== 'online' || this.talks.some(({ isDone }) => !isDone); n += 1) {
      assert.ok(n < 200, 'it never comes to an end');
      for (const { room, isOver } of this.talks) if (!isOver) room?.enter();
      await this.world.pass(100);
      await this.network.pump();
    }
    this.server.expire();
    await this.network.pump();
  }

  check() {
    const wanted = this.talks.filter(({ isOver }) => !isOver).map(({ id }) => id).sort();
    const present = ROOMS.filter((id) => this.server.room(id).members.size > 0).sort();
    assert.deepEqual(present, wanted, 'no ghost, and none is missing');
    for (const id of ROOMS) assert.ok(this.server.room(id).members.size < 2);
    assert.deepEqual(this.chat.rooms.map((room) => room.id).sort(), wanted);
    for (const talk of this.talks) this.checkTalk(talk);
  }

  checkTalk({ id, room, isOver, frames, gaps, outcomes }) {
    const { log } = this.server.room(id);
    const own = log.filter(({ event, message }) => event === 'message' && outcomes.has(message));
    const numbers = own.map(({ message }) => message);
    assert.deepEqual(numbers, [...new Set(numbers)].sort((a, b) => a - b), 'once each, in order');
    for (const [n, outcome] of outcomes) {
      if (typeof outcome === 'number') assert.equal(log[outcome - 1].message, n);
      else assert.ok(isOver && outcome.code === 'closed', 'only what was left is not acknowledged');
    }
    const live = frames.filter(({ info }) => !info.history);
    const earlier = frames.slice(0, frames.length - live.length);
    assert.ok(earlier.every(({ info, frame }) => info.history && frame.event === 'message' && (live.length === 0 || frame.seq < live[0].frame.seq)));
    const first = live[0]?.frame.seq ?? 1;
    assert.deepEqual(live.map(({ frame }) => frame), log.slice(first - 1, first - 1 + live.length), 'the room as it was');
    assert.equal(gaps, 0);
    if (!isOver) assert.equal(room.position.seq, log.length, 'up to its end');
    const mine = live.filter(({ info, frame }) => info.own && frame.event === 'message').map(({ frame }) => frame.message);
    assert.ok(mine.every((n) => n <= this.sent));
    assert.deepEqual(mine, live.filter(({ frame }) => frame.event === 'message' && frame.name === 'ann').map(({ frame }) => frame.message));
  }
}

for (const [what, settings] of Object.entries({
  'sessions are resumed': { resumes: true },
  'sessions expire': { resumes: true, expires: true },
  'there is no resumption': { resumes: false },
  'members are removed': { resumes: true, expires: true, removes: true },
})) {
  test(`in several rooms, messages arrive once and in order where ${what}`, async () => {
    let acknowledged = 0;
    for (let seed = 1; seed <= ROUNDS / 4; seed += 1) {
      const run = new Run(seed, settings);
      try {
        await run.play();
        run.check();
      } catch (error) {
        error.message = `seed ${seed}: ${error.message}`;
        throw error;
      }
      acknowledged += run.talks.flatMap(({ outcomes }) => [...outcomes.values()]).filter((outcome) => typeof outcome === 'number').length;
    }
    assert.ok(acknowledged > ROUNDS * 5, `${acknowledged} messages were acknowledged`);
  });
}
