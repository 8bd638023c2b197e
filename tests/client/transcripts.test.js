// The golden transcripts drive the client; this test is the server of each. See tests/transcripts/README.md.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { begin, ping, settled, World } from './world.js';

const FOLDER = new URL('../transcripts/', import.meta.url);
/** Longer than the client waits for anything. */
const PATIENCE = 60_000;

/** Texts that aren't known beforehand, by their names. */
class Unknowns {
  texts = new Map();

  /** The same value with its unknown texts put in; those that come up first are chosen. */
  fill(value) {
    if (typeof value === 'string' && value.startsWith('$')) {
      if (!this.texts.has(value)) this.texts.set(value, `some ${value.slice(1)}`);
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

class Play {
  world = new World();
  unknowns = new Unknowns();
  sockets = new Map();
  read = new Map(); // By socket, how many of its frames have been expected.
  sendings = new Map();
  heard = 0;

  constructor({ client, server }) {
    this.begun = begin(this.world, { name: client.name, room: client.room, ...(client.token && { token: client.token }) });
    this.interval = server.heartbeat ?? 1000;
  }

  /** Whether the step is about the client under test, and was played. */
  async step(step) {
    const connection = step.open ?? step.from ?? step.to ?? step.cut ?? step.close;
    if (connection !== undefined && !connection.startsWith('a')) return;
    await settled();
    const socket = this.sockets.get(connection);
    if (step.open) await this.open(step);
    else if (step.from) await this.expect(socket, step.frame);
    else if (step.to) socket.say(this.unknowns.fill(step.frame));
    else if (step.cut) socket.end();
    else if (step.close) await this.close(socket, step);
    else if (step.pass !== undefined) await this.pass(step.pass);
    else if (step.app) this.act(step);
    else if (step.settled) await this.expectSettled(step);
    else if (step.state) this.expectState(step.state);
    else if (step.event) this.expectEvent(step);
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
    const next = () => socket.sent.filter(({ event }) => event !== 'heartbeat')[this.read.get(socket) ?? 0];
    await this.until(() => next() !== undefined, 'the client says nothing');
    this.unknowns.learn(frame, next());
    assert.deepEqual(next(), this.unknowns.fill(frame));
    this.read.set(socket, (this.read.get(socket) ?? 0) + 1);
  }

  async close(socket, { by, code, reason }) {
    if (by === 'server') return socket.end(code, reason);
    await this.until(() => socket.closedWith !== null, 'the client does not close');
    assert.equal(socket.closedWith, code);
  }

  act({ app, message, as, ...extra }) {
    if (app === 'leave') return this.begun.outcome.room.leave();
    assert.equal(app, 'send');
    const sending = this.begun.outcome.room.send(message, extra);
    this.sendings.set(as, sending.then(({ seq }) => ({ seq }), ({ code }) => ({ error: code })));
  }

  async expectSettled({ settled: as, ...expected }) {
    let ended = null;
    this.sendings.get(as).then((outcome) => { ended = outcome; });
    await this.until(() => ended, 'the sending has not ended');
    assert.deepEqual(ended, expected);
  }

  expectState(expected) {
    const { room } = this.begun.outcome;
    const [state] = this.begun.states.at(-1)?.split(':') ?? ['connecting'];
    assert.equal(room?.state ?? state, expected);
  }

  expectEvent(expected) {
    for (const { value } of this.begun.heard.slice(this.heard)) {
      this.heard += 1;
      if (Object.keys(expected).every((key) => JSON.stringify(value[key]) === JSON.stringify(expected[key]))) return;
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
    for (const [name, socket] of this.sockets) {
      const said = socket.sent.filter(({ event }) => event !== 'heartbeat');
      assert.deepEqual(said.slice(this.read.get(socket) ?? 0), [], `on ${name}`);
    }
  }
}

for (const file of readdirSync(FOLDER).filter((name) => name.endsWith('.jsonl'))) {
  const lines = readFileSync(new URL(file, FOLDER), 'utf8').split('\n');
  const steps = lines.flatMap((line, n) => (line && !line.startsWith('#') ? [{ line: n + 1, step: JSON.parse(line) }] : []));
  const [{ step: head }] = steps.splice(0, 1);
  if (!head.client) continue; // It is about servers.
  test(`${file}: ${head.transcript}`, async () => {
    const play = new Play(head);
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
