// Silence: a server that is gone, a network that is slow, and a browser that only seems to hear nothing.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attempted, beats, begin, comeBack, enter, entered, ping, said, welcome, World } from './world.js';

const PING = { event: 'heartbeat', message: 'ping' };
const PONG = { event: 'heartbeat', message: 'pong' };

const isProbed = (socket) => socket.sent.some(({ event, message }) => event === 'heartbeat' && message === 'ping');

test('heartbeats are answered from the first on, and say nothing about rooms', async () => {
  const world = new World();
  const { outcome } = begin(world);
  world.socket.accept();
  world.socket.say(ping());
  assert.deepEqual(world.socket.sent, [PONG]);
  world.socket.say(welcome('1'));
  world.socket.say(entered(0));
  await world.pass(0);
  world.socket.say({ ...ping(), num: 5 });
  assert.equal(outcome.room.online, 1);
  world.socket.say({ event: 'heartbeat', message: 'pong' });
  assert.equal(world.socket.sent.filter(({ message }) => message === 'pong').length, 2, 'an answer is not answered');
  world.socket.end();
  await attempted(world);
  world.socket.accept();
  world.socket.say(ping());
  assert.equal(outcome.room.online, 1);
});

test('a server that freezes is noticed within interval and timeout', async () => {
  const world = new World();
  const { room, states } = await enter(world, {}, { heartbeat: { interval: 700, timeout: 400 } });
  await beats(world, 10);
  await world.pass(1_099);
  assert.equal(room.state, 'online');
  await world.pass(1);
  assert.deepEqual([room.state, room.reason.code, world.socket.closedWith], ['reconnecting', 'timeout', 4000]);
  assert.deepEqual(states, ['online', 'reconnecting: timeout']);
});

test('every frame is a sign of life', async () => {
  const world = new World();
  const { room } = await enter(world);
  for (let seq = 2; seq < 20; seq += 1) {
    await world.pass(1_900);
    world.socket.say(said(seq, 'x'));
  }
  assert.equal(room.state, 'online');
});

test('a network that takes what is sent is a sign of life', async () => {
  const world = new World();
  const { room } = await enter(world);
  room.send('x'.repeat(60_000)).catch(() => {});
  world.socket.bufferedAmount = 60_000;
  room.send('y').catch(() => {});
  for (let left = 50_000; left > 0; left -= 10_000) {
    await world.pass(1_500);
    world.socket.bufferedAmount = left;
    assert.equal(room.state, 'online', `${left} bytes are left`);
  }
  await world.pass(4_001);
  assert.equal(room.state, 'reconnecting');
});

test('what the system takes into its own buffer is none', async () => {
  const world = new World();
  const { room } = await enter(world);
  for (let n = 0; n < 4; n += 1) {
    world.socket.bufferedAmount = 40;
    room.send('into the void').catch(() => {});
    await world.pass(400);
    world.socket.bufferedAmount = 0;
    await world.pass(100);
  }
  assert.equal(room.state, 'reconnecting', 'two seconds after the last frame');

  await comeBack(world, '2', entered(1, { resumed: true, recovered: true }));
  world.socket.bufferedAmount = 40;
  world.tell('online');
  world.socket.bufferedAmount = 0;
  await world.pass(6_000);
  assert.equal(room.state, 'reconnecting', 'nor is that a probe is sent');
});

test('each connection that fell silent makes the next one more patient', async () => {
  const world = new World();
  const { room } = await enter(world);
  for (const silence of [2_000, 4_000, 8_000, 8_000]) {
    await world.pass(silence - 1);
    assert.equal(room.state, 'online', `within ${silence} ms`);
    await world.pass(1);
    assert.equal(room.state, 'reconnecting', `after ${silence} ms`);
    await comeBack(world, '2', entered(1, { resumed: true, recovered: true }));
  }
});

test('a slow network gets its message', async () => {
  const world = new World();
  const { room, heard } = await enter(world);
  world.socket.say(ping());
  await world.pass(3_000); // 60 kB at 20 kB/s. Heartbeats wait behind them.
  for (let seq = 2; seq < 8; seq += 1) {
    if (room.state !== 'online') {
      await attempted(world);
      world.socket.accept();
      world.socket.say(ping());
      world.socket.say(welcome('2'));
      world.socket.say(entered(2, { resumed: true, recovered: true }));
      await world.pass(3_000);
    }
    world.socket.say(said(seq, 'BIG'));
    await beats(world, 15);
    await world.pass(2_000);
  }
  assert.equal(world.sockets.length, 2, 'and every further one on the same connection');
  assert.equal(heard.length, 6);
});

test('once heartbeats come in time, the patience ends', async () => {
  const world = new World();
  const { room } = await enter(world);
  await world.pass(2_000);
  await comeBack(world, '2', entered(1, { resumed: true, recovered: true }));
  await beats(world, 12);
  await world.pass(2_000);
  assert.equal(room.state, 'reconnecting');
});

test('an attempt may take longer where connections were slow', async () => {
  const world = new World();
  begin(world, { attemptTimeout: 1_000 });
  await world.pass(1_000);
  await attempted(world);
  await world.pass(1_999);
  assert.equal(world.socket.closedWith, null);
  await world.pass(1);
  assert.equal(world.socket.closedWith, 4000);
});

test('a timer that fires late has not found a late frame', async () => {
  const world = new World();
  const { room, heard } = await enter(world);
  await world.sleep(300_000);
  assert.equal(room.state, 'online', 'what has come meanwhile is read first');
  assert.ok(isProbed(world.socket), 'and the server is asked');
  world.socket.say(said(2, 'was waiting'));
  await world.pass(3_000);
  assert.deepEqual([room.state, heard.length], ['reconnecting', 1], 'and then time counts as ever');
});

test('a connection that has survived a sleep is kept', async () => {
  const world = new World();
  const { room } = await enter(world);
  await world.sleep(300_000);
  await world.pass(2_000);
  world.socket.say(PONG);
  await beats(world, 10);
  assert.deepEqual([room.state, world.sockets.length], ['online', 1]);
});

test('a tab whose timers are slowed down stays online', async () => {
  const world = new World();
  const { room } = await enter(world);
  slowDown(world);
  await beats(world, 600);
  assert.deepEqual([room.state, world.sockets.length], ['online', 1]);
});

test('even there a dead server is found', async () => {
  const world = new World();
  slowDown(world);
  const { room } = await enter(world);
  await world.pass(90_000);
  assert.equal(room.state, 'online');
  await world.pass(60_000);
  assert.equal(room.reason?.code, 'timeout');
});

test('a heartbeat of many years is waited for', async () => {
  const world = new World();
  const { room } = await enter(world, {}, { heartbeat: { interval: 1e12, timeout: 1e12 } });
  await world.pass(1e10);
  assert.equal(room.state, 'online');
});

test('after a sleep that broke the connection it comes back', async () => {
  const world = new World();
  const { room } = await enter(world);
  await world.sleep(3_600_000);
  await world.pass(2_999);
  assert.equal(room.state, 'online');
  await world.pass(1);
  assert.deepEqual([room.state, world.socket.closedWith], ['reconnecting', 4000]);
  await comeBack(world, '2', entered(1, { resumed: true, recovered: true }));
  assert.equal(room.state, 'online');
});

test('a network that is back is not trusted: the server is asked at once', async () => {
  for (const [type, on] of [['online', (world) => world], ['pageshow', (world) => world], ['visibilitychange', (world) => world.document]]) {
    const world = new World();
    const { room } = await enter(world, {}, { heartbeat: { interval: 25_000, timeout: 20_000 } });
    await world.pass(1_000);
    world.tell(type, on(world));
    assert.deepEqual(world.socket.sent.splice(0), [PING], type);
    await world.pass(2_999);
    assert.equal(room.state, 'online');
    await world.pass(1);
    assert.deepEqual([room.state, room.reason.code], ['reconnecting', 'timeout'], type);
  }
});

test('a server that answers the probe is there', async () => {
  const world = new World();
  const { room } = await enter(world, {}, { heartbeat: { interval: 25_000, timeout: 20_000 } });
  await world.pass(1_000);
  world.tell('online');
  world.tell('pageshow');
  assert.equal(world.socket.sent.length, 1, 'one probe at a time');
  await world.pass(500);
  world.socket.say(PONG);
  await world.pass(40_000);
  assert.equal(room.state, 'online');
  await world.pass(5_000);
  assert.equal(room.state, 'reconnecting');
});

test('a page that wakes up with several events at once probes once', async () => {
  const world = new World();
  const { room } = await enter(world);
  world.skip(10_000);
  world.tell('pageshow');
  world.tell('online');
  world.tell('visibilitychange', world.document);
  assert.equal(room.state, 'online');
  await world.pass(500);
  world.socket.say(ping());
  await world.pass(2_000);
  assert.equal(room.state, 'online');
  await world.pass(1_000);
  assert.equal(room.state, 'reconnecting');
});

test('a frame between two late wake-ups gives a new second look', async () => {
  const world = new World();
  const { room } = await enter(world);
  for (let n = 0; n < 5; n += 1) {
    await world.sleep(10_000);
    assert.equal(room.state, 'online');
    world.socket.say(ping());
    await beats(world, 3);
  }
  assert.equal(world.sockets.length, 1);
});

/** As browsers do in the background: frames come in time, timers once a minute. */
function slowDown(world) {
  const { setTimeout } = world;
  world.setTimeout = (task, delay) => setTimeout.call(world, task, Math.ceil((world.now + delay) / 60_000) * 60_000 - world.now);
}
