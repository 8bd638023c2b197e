// Random cuts, expiries and refusals against the model of the server: direct messages to the client arrive once and in
// order, or the application is told how many were lost, and those of the client arrive once and in order.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from '../../src/browser/chat-rooms.js';
import { generator, Network, Server } from './server.js';
import { LIMITS, settled, World } from './world.js';

const ROUNDS = Number(process.env.CHAT_ROUNDS ?? 300);
const STEPS = 400;

class Run {
  world = new World();
  /** What the application was told, in order: the number of a message, or of how many were lost. */
  heard = [];
  /** By number, what the application was told of its message. */
  outcomes = new Map();
  said = 0;
  sent = 0;
  refused = new Set();

  constructor(seed, { settings, ...options }) {
    this.random = generator(seed);
    this.options = options;
    this.world.random = this.random();
    this.server = new Server({ user: 'ann', cids: 1 + Math.floor(this.random() * 6), ...settings });
    this.network = new Network(this.world, this.server);
    this.server.refuseDirect = ({ message }) => this.refuse(message);
  }

  /** A refused message is refused at once, or the client may try again later. */
  refuse(message) {
    const chance = this.random();
    if (!this.options.refuses || (chance > 0.1 && !this.refused.has(message))) return undefined;
    if (chance > 0.03 && !this.refused.has(message)) return { code: 'rate_limited', retryAfter: 50 };
    this.refused.add(message);
    return 'denied';
  }

  pick(items) { return items[Math.floor(this.random() * items.length)]; }

  step() {
    const link = this.pick(this.network.open);
    if (!link) return;
    const chance = this.random();
    if (link.socket.readyState === 0) return this.network.connect(link);
    if (chance < 0.03) return this.network.cut(link, Math.floor(this.random() * (link.in.length + 1)));
    const frame = chance < 0.5 ? link.in.shift() : this.next(link.out);
    if (!frame) return;
    if (chance < 0.5) this.server.receive(link, frame);
    else if (link.socket.readyState === 1) link.socket.say(frame);
  }

  /** Takes a frame of a room, or the next one that concerns none. */
  next(frames) {
    const roomId = this.pick([undefined, 'tea']);
    const index = frames.findIndex((frame) => frame.roomId === roomId);
    return index < 0 ? undefined : frames.splice(index, 1)[0];
  }

  act() {
    const chance = this.random();
    if (chance < 0.25) this.server.sendToUser({ event: 'direct', message: this.said += 1, from: { user: 'bob' } });
    else if (chance < 0.45) this.send();
    else if (chance < 0.5) this.room?.send('in the room').catch(() => {});
    else if (chance < 0.51 && this.options.expires) this.server.expire();
  }

  send() {
    const n = this.sent += 1;
    this.outcomes.set(n, null);
    this.chat.sendTo('bob', n).then((reached) => this.outcomes.set(n, reached), ({ code }) => this.outcomes.set(n, code));
  }

  async play() {
    const on = {
      direct: ({ message, direct }, info) => {
        assert.deepEqual(info, { own: false, replayed: false, history: false });
        this.heard.push({ message, direct });
      },
      directGap: ({ missed }) => this.heard.push({ missed }),
    };
    const opening = connect('/chat', { global: this.world, backoff: { base: 50, cap: 400 }, on });
    await this.network.pump();
    this.chat = await opening;
    if (this.options.isInRoom) {
      const joining = this.chat.join('tea', { name: 'ann' });
      await this.network.pump();
      this.room = await joining;
    }
    for (let n = 0; n < STEPS; n += 1) {
      this.step();
      this.step();
      this.act();
      if (this.random() < 0.2) await this.world.pass(Math.floor(this.random() * 200));
      await settled();
    }
    await this.network.pump();
    for (let n = 0; this.chat.state !== 'online' || [...this.outcomes.values()].includes(null); n += 1) {
      assert.ok(n < 200, 'it never comes to an end');
      await this.world.pass(100);
      await this.network.pump();
    }
  }

  check() {
    const messages = this.heard.flatMap(({ message }) => message ?? []);
    assert.deepEqual(messages, [...new Set(messages)].sort((a, b) => a - b), 'once each, in order');
    if (!this.options.expires && !this.options.loses) assert.equal(messages.length, this.said, 'all of them');
    if (!this.options.expires) {
      const missed = this.heard.reduce((sum, { missed: count = 0 }) => sum + count, 0);
      assert.equal(messages.length + missed, this.said, 'the others are known to be lost');
    }
    const sent = this.server.received.map(({ to, message }) => (assert.equal(to, 'bob'), message));
    const expected = [...this.outcomes.keys()].filter((n) => !this.refused.has(n));
    const ordered = [...sent].sort((a, b) => a - b);
    // The server forgets the messages of a session that has ended.
    if (this.options.expires) assert.deepEqual([...new Set(ordered)], expected);
    // Later ones may be in flight when one is refused.
    else if (this.options.refuses) assert.deepEqual(ordered, expected, 'once each');
    else assert.deepEqual(sent, expected, 'once each, in order');
    for (const [n, outcome] of this.outcomes) assert.equal(outcome, this.refused.has(n) ? 'denied' : 0);
  }
}

for (const [what, options] of Object.entries({
  'the client is in no room': {},
  'the client is in a room': { isInRoom: true },
  'the server keeps few of them': { isInRoom: true, loses: true, settings: { keptDirects: 2 } },
  'sessions expire': { isInRoom: true, expires: true },
  // If the server forgets cids as soon as it may, a message that was accepted before a refused one may be published twice.
  'some are refused': { refuses: true, settings: { cids: LIMITS.cids } },
  'the rate is low': { isInRoom: true, settings: { rates: { messages: 40, bytes: 20_000, burst: 1 } } },
})) {
  test(`direct messages arrive once and in order where ${what}`, async () => {
    for (let seed = 1; seed <= ROUNDS / 6; seed += 1) {
      const run = new Run(seed, options);
      try {
        await run.play();
        run.check();
      } catch (error) {
        error.message = `seed ${seed}: ${error.message}`;
        throw error;
      }
    }
  });
}
