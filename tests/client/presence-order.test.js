// Random enters, leaves, changes, modes, lags, cuts and removals against the model of the server: in the end, the client
// knows the members of each room exactly as the server does.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from '../../src/browser/chat-rooms.js';
import { generator, Network, Server } from './server.js';
import { settled, World } from './world.js';

const ROUNDS = Number(process.env.CHAT_ROUNDS ?? 300);
const ROOMS = ['tea', 'coffee'];
const OTHERS = ['b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k'];
const STEPS = 300;

class Run {
  world = new World();
  rooms = [];
  /** By room id, the state that the application has set last, and how often it was told of the members. */
  states = new Map();
  told = 0;

  constructor(seed, settings) {
    this.random = generator(seed);
    this.settings = settings;
    this.world.random = this.random();
    const presence = { pageSize: 1 + Math.floor(this.random() * 4), ...settings.presence };
    this.server = new Server({ resumes: settings.resumes, presence });
    this.network = new Network(this.world, this.server);
  }

  pick(items) { return items[Math.floor(this.random() * items.length)]; }

  /** A frame takes its way, or a connection is lost. */
  step() {
    const link = this.pick(this.network.open);
    if (!link) return;
    const chance = this.random();
    if (link.socket.readyState === 0) return this.network.connect(link);
    if (chance < 0.01) return this.network.cut(link, Math.floor(this.random() * (link.in.length + 1)));
    const frame = chance < 0.5 ? link.in.shift() : link.out.shift();
    if (!frame) return;
    if (chance < 0.5) this.server.receive(link, frame);
    else if (link.socket.readyState === 1) link.socket.say(frame);
  }

  /** Other members do something. */
  actOthers() {
    const room = this.server.room(this.pick(ROOMS));
    const [member, chance] = [this.pick(OTHERS), this.random()];
    if (!room.roster.has(member)) {
      const profile = { name: `name ${member}`, ...this.pick([{}, { user: this.pick(['u', 'v']) }, { info: { n: 1 }, state: 'here' }]) };
      if (chance < 0.7) this.server.enterOther(room.id, member, profile);
    } else if (chance < 0.4) {
      room.remove(member);
    } else if (chance < 0.8) {
      room.change(member, this.pick([{ state: chance }, { state: null }, { info: [chance] }, { info: null, user: 'w' }]));
    } else {
      room.publish({ event: 'message', message: 'x', name: `name ${member}`, member });
    }
  }

  /** The host or the server does something. */
  actServer() {
    const room = this.server.room(this.pick(ROOMS));
    const chance = this.random();
    if (chance < 0.3) room.flushChanges();
    else if (chance < 0.5) room.flushNum();
    else if (chance < 0.6) room.lag();
    else if (chance < 0.8) room.catchUpAll();
    else if (chance < 0.85 && this.settings.switches) room.switchTo(this.pick(['full', 'count', 'quiet']));
    else if (chance < 0.9 && this.settings.expires) this.server.expire();
    else if (chance < 0.92 && [...room.members.values()].some(({ link }) => link)) this.server.removeFrom(room.id, 'internal');
    else if (chance < 0.97) this.changeOwn(room);
  }

  /** The host changes something about the client. */
  changeOwn(room) {
    const own = [...room.members.values()].find(({ token }) => token);
    if (own) room.change(own.member, { info: this.random() });
  }

  act() {
    const room = this.pick(this.rooms);
    if (this.random() < 0.9) return;
    const state = this.pick([{ n: this.random() }, 'away', null, undefined]);
    room.setState(state);
    this.states.set(room.id, state ?? null);
  }

  async play() {
    const opening = connect('/chat', { global: this.world, backoff: { base: 50, cap: 400 } });
    await this.network.pump();
    const chat = await opening;
    for (const id of ROOMS) {
      const joining = chat.join(id, { name: 'ann', roster: this.settings.roster ?? 1_000, on: { presence: (presence) => this.checkTold(presence) } });
      await this.network.pump();
      this.rooms.push(await joining);
    }
    for (let n = 0; n < STEPS; n += 1) {
      this.step();
      this.step();
      this.actOthers();
      if (this.random() < 0.3) this.actServer();
      this.act();
      if (this.random() < 0.2) await this.world.pass(Math.floor(this.random() * 200));
      await settled();
    }
    await this.finish();
  }

  /** What is still under way arrives. */
  async finish() {
    const calm = async () => {
      for (const id of ROOMS) {
        const room = this.server.room(id);
        room.catchUpAll();
        room.flushChanges();
        room.flushNum();
        // In quiet mode, only such a frame has the number of members.
        room.publish({ event: 'message', message: 'x', name: 'b', member: 'b' });
      }
      await this.network.pump();
    };
    await calm();
    for (let n = 0; this.rooms.some(({ state }) => state !== 'online'); n += 1) {
      assert.ok(n < 200, 'it never comes to an end');
      await this.world.pass(100);
      await calm();
    }
    // Longer than the client waits before it asks for a roster or sends a state.
    for (let n = 0; n < 15; n += 1) {
      await this.world.pass(100);
      await calm();
    }
  }

  checkTold({ mode, members, complete, self }) {
    this.told += 1;
    assert.ok(mode === 'full' || members === null, 'no roster without its mode');
    assert.ok(members !== null || !complete);
    if (self) assert.ok(members.includes(self) && self.self);
  }

  check() {
    for (const room of this.rooms) {
      const truth = this.server.room(room.id);
      const { presence } = room;
      assert.deepEqual([presence.mode, presence.num, room.online], [truth.mode, truth.num, truth.num]);
      if (this.states.has(room.id)) assert.deepEqual(truth.roster.get(room.member).state ?? null, this.states.get(room.id), 'the own state');
      if (truth.mode !== 'full') {
        assert.deepEqual([presence.members, presence.complete, presence.self], [null, false, null]);
      } else if (this.settings.roster === undefined) {
        assert.deepEqual(presence.members.map(({ id: member, self, ...more }) => ({ member, ...more })), truth.list, 'the same members');
        assert.deepEqual(presence.members.filter(({ self }) => self).map(({ id }) => id), [room.member]);
        assert.deepEqual([presence.complete, presence.users, presence.self.id], [true, truth.users, room.member]);
      } else if (presence.members) {
        const known = new Map(truth.list.map((member) => [member.member, member]));
        for (const { id, self, ...more } of presence.members) assert.deepEqual(known.get(id), { member: id, ...more }, 'no wrong member');
      }
    }
  }
}

for (const [what, settings] of Object.entries({
  'sessions are resumed': { resumes: true },
  'sessions expire': { resumes: true, expires: true },
  'there is no resumption': { resumes: false },
  'modes change': { resumes: true, expires: true, switches: true },
  'the mode depends on the number of members': { resumes: true, expires: true, presence: { on: 7, off: 4 } },
  'few members are asked for': { resumes: true, expires: true, switches: true, roster: 3 },
  'no members are asked for': { resumes: true, switches: true, roster: 0 },
})) {
  test(`in the end, the client knows the members of its rooms where ${what}`, async () => {
    for (let seed = 1; seed <= ROUNDS / 6; seed += 1) {
      const run = new Run(seed, settings);
      try {
        await run.play();
        run.check();
        assert.ok(run.told > 10);
      } catch (error) {
        error.message = `seed ${seed}: ${error.message}`;
        throw error;
      }
    }
  });
}
