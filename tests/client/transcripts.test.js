// The golden transcripts drive the client; this test is the server of each. See tests/transcripts/README.md.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { connect } from '../../src/browser/chat-rooms.js';
import { ping, settled, World } from './world.js';

const FOLDER = new URL('../transcripts/', import.meta.url);
/** Longer than the client waits for anything. */
const PATIENCE = 60_000;

/** The numbers for placeholders begin here: ids of messages are as high. */
const FIRST_NUMBER = 890_123_456_789_504;

/** Texts and numbers that aren't known beforehand, by their names. */
class Unknowns {
  texts = new Map();

  /** The same value with its unknown texts and numbers put in; those that come up first are chosen. */
  fill(value) {
    if (typeof value === 'string' && value.startsWith('$')) {
      if (!this.texts.has(value)) this.texts.set(value, `some ${value.slice(1)}`);
      return this.texts.get(value);
    }
    if (typeof value === 'string' && value.startsWith('#')) {
      if (!this.texts.has(value)) this.texts.set(value, FIRST_NUMBER + this.texts.size);
      return this.texts.get(value);
    }
    if (Array.isArray(value)) return value.map((item) => this.fill(item));
    if (value === null || typeof value !== 'object') return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.fill(item)]));
  }

  /** Takes from an actual value what its expected one leaves open. */
  learn(expected, actual) {
    if (typeof expected === 'string' && expected.startsWith('$') && !this.texts.has(expected)) {
      assert.equal(typeof actual, 'string', `${expected} stands for a text`);
      this.texts.set(expected, actual);
    } else if (expected !== null && typeof expected === 'object') {
      for (const key of Object.keys(expected)) this.learn(expected[key], actual?.[key]);
    }
  }
}

/** What the application does with the client, and what it is told. */
class Application {
  /** The frames that it has received, of all rooms. */
  heard = [];
  #name;
  #history;
  #first;
  /** Null in the form for one room. */
  #chat = null;
  /** By id, each as it was entered last: `{ room, state }`, where `room` is null before the first `entered`. */
  #rooms = new Map();

  constructor(global, { name, room, history, ...more }, isForOneRoom) {
    this.#name = name;
    this.#history = history;
    this.#first = room;
    const options = { global, ...more };
    if (isForOneRoom) {
      this.#enter(room, (own) => connect('/chat', { ...options, ...own, room }));
    } else {
      connect('/chat', { ...options, on: { '*': (frame) => this.heard.push(frame) } }).then((chat) => {
        this.#chat = chat;
        this.enter(room);
      });
    }
  }

  enter(id) { this.#enter(id, (own) => this.#chat.join(id, own)); }

  /** Without a room, it leaves all. */
  leave(id) {
    if (id === undefined && this.#chat) this.#chat.close();
    else this.room(id).leave();
  }

  sendTo(user, message) { return (this.#chat ?? this.room()).sendTo(user, message); }

  room(id = this.#first) { return this.#rooms.get(id).room; }

  expectState(expected, id = this.#first) {
    const { room, state } = this.#rooms.get(id) ?? { room: null, state: 'connecting' };
    if (room) assert.equal(room.state, state);
    assert.equal(state, expected);
  }

  #enter(id, enter) {
    const entry = { room: null, state: 'connecting' };
    this.#rooms.set(id, entry);
    const on = { '*': (frame) => this.heard.push(frame), state: ({ state }) => { entry.state = state; } };
    enter({ name: this.#name, history: this.#history, on }).then((room) => { entry.room = room; }, () => {}); // The state shows a refusal.
  }
}

class Play {
  world = new World();
  unknowns = new Unknowns();
  sockets = new Map();
  read = new Map(); // By socket, how many of its frames have been expected.
  unanswered = new Map(); // By socket, the last frame that was expected, until the server says something.
  ahead = new Map(); // By room, an enter that the server has not read, until it comes again.
  sendings = new Map();
  heard = 0;

  constructor({ client, server }, isForOneRoom) {
    this.app = new Application(this.world, client, isForOneRoom);
    this.interval = server.heartbeat ?? 1000;
  }

  /** Whether the step is about the client under test, and was played. */
  async step(step) {
    const connection = step.open ?? step.from ?? step.to ?? step.cut ?? step.close;
    if (step.host || (connection !== undefined && !connection.startsWith('a'))) return;
    await settled();
    const socket = this.sockets.get(connection);
    if (step.open) await this.open(step);
    else if (step.from) await this.expect(socket, step.frame);
    else if (step.to) this.say(socket, step.frame);
    else if (step.cut) this.cut(socket);
    else if (step.close) await this.close(socket, step);
    else if (step.pass !== undefined) await this.pass(step.pass);
    else if (step.app) this.act(step);
    else if (step.settled) await this.expectSettled(step);
    else if (step.state) this.app.expectState(step.state, step.room);
    else if (step.presence) await this.expectPresence(step);
    else if (step.event) this.expectEvent(this.unknowns.fill(step));
    else assert.fail('no such step');
  }

  async open({ open, protocol }) {
    const before = this.sockets.size;
    await this.until(() => this.world.sockets.length > before, 'no attempt was made');
    assert.equal(this.world.sockets.length, before + 1, 'one attempt at a time');
    assert.equal(this.world.socket.offered[0], protocol);
    this.sockets.set(open, this.world.socket);
    this.world.socket.accept(protocol);
  }

  async expect(socket, frame) {
    await this.until(() => this.unread(socket).length > 0, 'the client says nothing');
    const [next] = this.unread(socket);
    this.unknowns.learn(frame, next);
    assert.deepEqual(next, this.unknowns.fill(frame));
    this.read.set(socket, (this.read.get(socket) ?? 0) + 1);
    this.unanswered.set(socket, next);
    if (next.event !== 'enter' || !this.ahead.has(next.roomId)) return;
    assert.deepEqual(this.ahead.get(next.roomId), next, 'it was sent before');
    this.ahead.delete(next.roomId);
  }

  say(socket, frame) {
    this.unanswered.delete(socket);
    socket.say(this.unknowns.fill(frame));
  }

  /** A client may send its enters before its `resume` is answered. Those that the server does not read any more are the
   * ones that the client sends on its next connection. */
  cut(socket) {
    const rest = this.unanswered.get(socket)?.event === 'resume' ? this.unread(socket) : [];
    for (const frame of rest) {
      assert.equal(frame.event, 'enter', 'only enters may follow a resume without an answer');
      assert.ok(!this.ahead.has(frame.roomId), 'a room is entered once');
      this.ahead.set(frame.roomId, frame);
    }
    this.read.set(socket, (this.read.get(socket) ?? 0) + rest.length);
    socket.end();
  }

  async close(socket, { by, code, reason }) {
    if (by === 'server') return socket.end(code, reason);
    await this.until(() => socket.closedWith !== null, 'the client does not close');
    assert.equal(socket.closedWith, code);
  }

  act({ app, room, message, as, user, name, state, ...step }) {
    if (app === 'enter') return this.app.enter(room);
    if (app === 'leave') return this.app.leave(room);
    const entered = this.app.room(room);
    if (app === 'state') return entered.setState(state);
    if (app === 'transient') return entered.sendTransient(name, message);
    const { before, after, limit } = this.unknowns.fill(step);
    const sending = {
      history: () => entered.history({ before, after, limit })
        .then(({ messages, more }) => ({ messages: messages.map((frame) => frame.message), more })),
      send: () => entered.send(message).then(({ seq }) => ({ seq })),
      direct: () => this.app.sendTo(user, message).then((reached) => ({ reached })),
    }[app]();
    this.sendings.set(as, sending.catch(({ code }) => ({ error: code })));
  }

  async expectSettled({ settled: as, ...expected }) {
    let ended = null;
    this.sendings.get(as).then((outcome) => { ended = outcome; });
    await this.until(() => ended, 'the sending has not ended');
    assert.deepEqual(ended, expected);
  }

  async expectPresence({ presence, room }) {
    const expected = this.unknowns.fill(presence);
    let known = null;
    const isKnown = () => {
      const { mode, num, users, members } = this.app.room(room).presence;
      const all = { mode, num, users, members: members && members.map(({ id, self, ...more }) => ({ member: id, ...more })) };
      known = Object.fromEntries(Object.keys(expected).map((key) => [key, all[key]]));
      return isDeepStrictEqual(known, expected);
    };
    await this.until(isKnown, 'the client knows other members').catch(() => assert.deepEqual(known, expected));
  }

  expectEvent(expected) {
    for (const frame of this.app.heard.slice(this.heard)) {
      this.heard += 1;
      if (Object.keys(expected).every((key) => JSON.stringify(frame[key]) === JSON.stringify(expected[key]))) return;
    }
    assert.fail('the application was not told');
  }

  /** Time passes, with the server's heartbeats. */
  async pass(ms) {
    for (let left = ms; left > 0; left -= this.interval) {
      await this.world.pass(Math.min(left, this.interval));
      this.beat();
    }
  }

  async until(isDone, complaint) {
    const end = this.world.now + PATIENCE;
    await settled();
    while (!isDone()) {
      assert.ok(this.world.now < end, complaint);
      await this.world.pass(100);
    }
  }

  beat() {
    for (const socket of this.sockets.values()) {
      if (socket.readyState === 1) socket.say(ping());
    }
  }

  /** Nothing was said beyond what was expected. */
  end() {
    for (const [name, socket] of this.sockets) assert.deepEqual(this.unread(socket), [], `on ${name}`);
    assert.deepEqual([...this.ahead.values()], [], 'not sent again');
  }

  /** What the client has said and was not expected yet. */
  unread(socket) {
    return socket.sent.filter(({ event }) => event !== 'heartbeat').slice(this.read.get(socket) ?? 0);
  }
}

for (const file of readdirSync(FOLDER).filter((name) => name.endsWith('.jsonl'))) {
  const lines = readFileSync(new URL(file, FOLDER), 'utf8').split('\n');
  const steps = lines.flatMap((line, n) => (line && !line.startsWith('#') ? [{ line: n + 1, step: JSON.parse(line) }] : []));
  const [{ step: head }] = steps.splice(0, 1);
  if (!head.client) continue; // It is about servers.
  const hasOneRoom = !steps.some(({ step }) => step.app === 'enter');
  for (const isForOneRoom of hasOneRoom ? [false, true] : [false]) {
    test(`${file}: ${head.transcript}${isForOneRoom ? ' (the form for one room)' : ''}`, async () => {
      const play = new Play(head, isForOneRoom);
      for (const { line, step } of steps) {
        try {
          await play.step(step);
        } catch (error) {
          error.message = `${file}:${line}: ${error.message}`;
          throw error;
        }
      }
      await settled();
      play.end();
    });
  }
}
