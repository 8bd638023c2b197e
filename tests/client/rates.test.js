// The client keeps to the server's rates by itself, and what is refused all the same loses neither its
// place nor its turn.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { beats, comeBack, enter, entered, LIMITS, NO_RATES, ping, RATES, settled, World } from './world.js';

/** How a server limits rates: a bucket for messages and one for bytes on each connection. It answers after some time. */
class Server {
  accepted = [];
  refused = 0;
  /** Refused, less those since that were accepted. With 100 the server closes a connection for good. */
  excess = 0;
  maxExcess = 0;
  #seq = 1;
  #buckets;
  #filledAt;

  constructor(world, rates, { delay = 50, isEmpty = false } = {}) {
    Object.assign(this, { world, rates, delay, isEmpty });
  }

  serve(socket) {
    this.#buckets = this.#full().map((level) => (this.isEmpty && level < Infinity ? 0 : level));
    this.#filledAt = this.world.now;
    socket.onsent = ({ event, ...frame }) => event === 'message' && this.world.setTimeout(() => this.#receive(socket, { event, ...frame }), this.delay);
  }

  #full() {
    const { messages, bytes, burst } = this.rates;
    return [messages ?? Infinity, bytes ?? Infinity].map((rate) => rate * burst);
  }

  #receive(socket, frame) {
    const passed = (this.world.now - this.#filledAt) / 1000;
    this.#filledAt = this.world.now;
    const perSecond = [this.rates.messages ?? Infinity, this.rates.bytes ?? Infinity];
    const full = this.#full();
    this.#buckets = this.#buckets.map((left, n) => Math.min(full[n], left + passed * perSecond[n]));
    const cost = [1, JSON.stringify(frame).length];
    const missing = cost.map((amount, n) => (amount > this.#buckets[n] ? (amount - this.#buckets[n]) / perSecond[n] : 0));
    const wait = Math.max(...missing);
    if (wait > 0) {
      this.refused += 1;
      this.excess += 1;
      this.maxExcess = Math.max(this.maxExcess, this.excess);
      assert.ok(this.excess < 100, 'the server has closed the connection');
      return socket.say({ event: 'error', code: 'rate_limited', message: 'too fast', cid: frame.cid, retryAfter: Math.ceil(wait * 1000) });
    }
    this.#buckets = this.#buckets.map((left, n) => left - cost[n]);
    this.excess = Math.max(0, this.excess - 1);
    this.accepted.push(frame.message);
    socket.say({ event: 'ack', cid: frame.cid, seq: this.#seq += 1 });
  }
}

/** Has queued so many messages of this size while the connection was lost, and is back. */
async function backWithQueue(world, count, bytes, { told = RATES, actual = RATES, ...how } = {}) {
  const { room } = await enter(world, {}, { rates: told });
  world.socket.end();
  const results = {};
  for (let n = 0; n < count; n += 1) {
    room.send(`${n} ${'x'.repeat(bytes)}`).then(() => 'ok', ({ code }) => code).then((what) => { results[what] = (results[what] ?? 0) + 1; });
  }
  const server = new Server(world, actual, how);
  await comeBack(world, '2', entered(1, { resumed: true, recovered: true }), { rates: told }, (socket) => server.serve(socket));
  return { room, server, results };
}

const numbers = (server) => server.accepted.map((text) => Number(text.split(' ')[0]));
const upTo = (count) => Array.from({ length: count }, (_, n) => n);

test('what has waited is sent within the rates: nothing is refused, all arrives in order', async () => {
  for (const [bytes, within] of [[10, 4], [6_000, 5], [30_000, 18]]) {
    const world = new World();
    const { room, server, results } = await backWithQueue(world, 128, bytes);
    await beats(world, within);
    assert.deepEqual(results, { ok: 128 }, `128 messages of ${bytes} bytes`);
    assert.deepEqual([server.refused, room.state, world.sockets.length], [0, 'online', 2]);
    assert.deepEqual(numbers(server), upTo(128));
  }
});

test('other rates are kept as well, and none is no limit', async () => {
  for (const [rates, within] of [
    [{ messages: 10, bytes: null, burst: 1 }, 13], [{ messages: null, bytes: 20_000, burst: 1 }, 8], [{ messages: 10, bytes: null }, 13], [NO_RATES, 1],
  ]) {
    const world = new World();
    const { server, results } = await backWithQueue(world, 100, 1_000, { told: rates, actual: { burst: 2, ...rates } });
    await beats(world, within);
    assert.deepEqual([results, server.refused], [{ ok: 100 }, 0], JSON.stringify(rates));
  }
});

test('where the buckets are empty at the start, nothing is refused, and nothing waits longer than it has to', async () => {
  for (const delay of [0, 1, 50, 300]) {
    for (const [rates, count, bytes, within] of [
      [RATES, 128, 10, 1_300], [RATES, 128, 6_000, 3_100], [RATES, 20, 60_000, 5_000], [{ messages: 1, bytes: null, burst: 2 }, 5, 10, 5_000],
      [{ messages: 10, bytes: 1_000, burst: 2 }, 20, 200, 6_000],
    ]) {
      const world = new World();
      const { server, results } = await backWithQueue(world, count, bytes, { told: { ...rates, empty: true }, actual: rates, delay, isEmpty: true });
      const begin = world.now;
      while (results.ok !== count && world.now < begin + 20_000) {
        await world.pass(50);
        world.socket.say(ping());
      }
      assert.deepEqual([server.refused, results, numbers(server)], [0, { ok: count }, upTo(count)]);
      assert.ok(world.now - begin <= within + 4 * delay + 200, `${count} of ${bytes} bytes took ${world.now - begin} ms`);
    }
  }
});

test('each connection has full buckets, whatever was sent on the one before', async () => {
  const world = new World();
  const { room } = await enter(world, { maxQueue: 300 });
  const server = new Server(world, RATES);
  server.serve(world.socket);
  const sent = [];
  for (let n = 0; n < 100; n += 1) sent.push(room.send(`${n} first`));
  await world.pass(200);
  await Promise.all(sent);
  world.random = 0;
  world.socket.end();
  for (let n = 100; n < 200; n += 1) room.send(`${n} second`);
  await comeBack(world, '2', entered(1, { resumed: true, recovered: true }), {}, (socket) => server.serve(socket));
  await world.pass(500);
  assert.deepEqual([server.refused, numbers(server)], [0, upTo(200)]);
});

test('an enter on the same connection does not fill the buckets', async () => {
  const world = new World();
  const rates = { messages: 10, bytes: null, burst: 2 };
  const { room } = await enter(world, {}, { rates });
  let sent = 0;
  for (let n = 0; n < 5; n += 1) {
    for (let m = 0; m < 10; m += 1) room.send(m).catch(() => {});
    world.socket.say({ event: 'left', roomId: 'tea', code: 'denied', message: 'put out' });
    sent += world.socket.take().length;
    room.enter();
    world.socket.take();
    world.socket.say(entered(1, { resumed: true, recovered: true, replayed: 0 }));
  }
  assert.equal(sent, 9, 'the first enter counts as well');
});

test('a server that does not say that its buckets are empty closes nobody', async () => {
  const world = new World();
  const { server, results } = await backWithQueue(world, 128, 10, { delay: 5, isEmpty: true });
  await beats(world, 3);
  assert.deepEqual([results, numbers(server)], [{ ok: 128 }, upTo(128)]);
  assert.ok(server.refused > 0 && server.maxExcess < 30, `${server.refused} refused, ${server.maxExcess} at once`);
});

test('a message that is bigger than the bucket goes when the bucket is full', async () => {
  const world = new World();
  const rates = { messages: null, bytes: 10_000, burst: 1 };
  const { room } = await enter(world, {}, { rates });
  const server = new Server(world, { messages: null, bytes: 10_000, burst: 1 });
  server.serve(world.socket);
  const sending = Promise.all(['a', 'b', 'c'].map((text) => room.send(text.repeat(9_000))));
  await beats(world, 4);
  await sending;
  assert.deepEqual([server.accepted.map(([letter]) => letter), server.refused], [['a', 'b', 'c'], 0]);
});

test('a server that takes less than it says loses nothing, and gets it in order', async () => {
  const world = new World();
  const actual = { messages: 10, bytes: null, burst: 1 };
  const { room, server, results } = await backWithQueue(world, 60, 10, { actual });
  await beats(world, 30);
  assert.deepEqual([results, room.state], [{ ok: 60 }, 'online']);
  assert.deepEqual(numbers(server), upTo(60));
});

test('a refused message goes first and alone; what was sent later does not overtake it', async () => {
  const world = new World();
  const { room } = await enter(world);
  const sending = ['a', 'b', 'c', 'd'].map((text) => room.send(text));
  const [a, b, c, d] = world.socket.take();
  world.socket.say({ event: 'ack', cid: a.cid, seq: 2 });
  world.socket.say({ event: 'error', code: 'rate_limited', message: 'too fast', cid: b.cid, retryAfter: 100 });
  sending.push(room.send('e'));
  await world.pass(150);
  assert.deepEqual(world.socket.take(), [], 'what is in flight is not answered yet');
  world.socket.say({ event: 'error', code: 'rate_limited', message: 'too fast', cid: c.cid, retryAfter: 90 });
  world.socket.say({ event: 'error', code: 'rate_limited', message: 'too fast', cid: d.cid, retryAfter: 80 });
  await world.pass(89);
  assert.deepEqual(world.socket.take(), []);
  await world.pass(20);
  assert.deepEqual(world.socket.take(), [b]);
  await world.pass(500);
  world.socket.say({ event: 'error', code: 'rate_limited', message: 'too fast', cid: b.cid, retryAfter: 100 });
  await world.pass(200);
  assert.deepEqual(world.socket.take(), [b]);
  world.socket.say({ event: 'ack', cid: b.cid, seq: 3 });
  const rest = world.socket.take();
  assert.deepEqual(rest.map(({ message }) => message), ['c', 'd'], 'and then more with each that is accepted');
  world.socket.say({ event: 'ack', cid: rest[0].cid, seq: 4 });
  rest.push(...world.socket.take());
  assert.deepEqual(rest.map(({ message }) => message), ['c', 'd', 'e']);
  rest.slice(1).forEach(({ cid }, n) => world.socket.say({ event: 'ack', cid, seq: n + 5 }));
  assert.deepEqual((await Promise.all(sending)).map(({ seq }) => seq), [2, 3, 4, 5, 6]);
});

test('a server that is unavailable for the moment gets the message later', async () => {
  for (const code of ['unavailable', 'internal', 'rate_limited']) {
    const world = new World();
    const { room } = await enter(world);
    const sending = room.send('a');
    const [a] = world.socket.take();
    world.socket.say({ event: 'error', code, message: 'later', cid: a.cid, retryAfter: 1_000 });
    await world.pass(900);
    world.socket.say({ event: 'heartbeat', message: 'ping', num: 1 });
    assert.deepEqual(world.socket.take(), [], code);
    await world.pass(101);
    assert.deepEqual(world.socket.take(), [a], code);
    world.socket.say({ event: 'ack', cid: a.cid, seq: 2 });
    assert.deepEqual(await sending, { seq: 2 });
  }
});

test('a refused rate without a time is tried again after a second', async () => {
  const world = new World();
  const { room } = await enter(world);
  room.send('a').catch(() => {});
  const [a] = world.socket.take();
  world.socket.say({ event: 'error', code: 'rate_limited', message: 'too fast', cid: a.cid, retryAfter: 'soon' });
  await world.pass(1_001);
  assert.deepEqual(world.socket.take(), [a]);
});

test('a connection that is lost while a message is put off keeps it', async () => {
  const world = new World();
  const { room } = await enter(world);
  const sending = room.send('a');
  const [a] = world.socket.take();
  world.socket.say({ event: 'error', code: 'rate_limited', message: 'too fast', cid: a.cid, retryAfter: 5_000 });
  world.socket.end();
  await comeBack(world, '2', entered(1, { resumed: true, recovered: true }));
  assert.deepEqual(world.socket.take(), [], 'the server has asked for this');
  await beats(world, 6);
  assert.deepEqual(world.socket.take(), [a]);
  world.socket.say({ event: 'ack', cid: a.cid, seq: 2 });
  assert.deepEqual(await sending, { seq: 2 });
});

test('the default rates hold where the server says none', async () => {
  const world = new World();
  const { room } = await enter(world, {}, { rates: undefined, limits: { ...LIMITS, cids: 1_000 } });
  const server = new Server(world, RATES);
  server.serve(world.socket);
  for (let n = 0; n < 128; n += 1) room.send(`${n} ${'x'.repeat(6_000)}`).catch(() => {});
  await beats(world, 5);
  await settled();
  assert.deepEqual([server.refused, server.accepted.length], [0, 128]);
});
