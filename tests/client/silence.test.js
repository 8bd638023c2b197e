// A server that says nothing, and a browser that only seems not to hear it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { comeBack, enter, entered, ping, said, World } from './world.js';

test('a server that freezes is noticed within interval and timeout', async () => {
  const world = new World();
  const { room, states } = await enter(world, {}, { heartbeat: { interval: 700, timeout: 400 } });
  for (let n = 0; n < 10; n += 1) {
    await world.pass(1_000);
    world.socket.say(ping(1));
  }
  await world.pass(1_099);
  assert.equal(room.state, 'online');
  await world.pass(1);
  assert.deepEqual([room.state, room.reason.code, world.socket.closedWith], ['reconnecting', 'timeout', 4000]);
  assert.deepEqual(states, ['online', 'reconnecting: timeout']);
});

test('every frame is life', async () => {
  const world = new World();
  const { room } = await enter(world);
  for (let seq = 2; seq < 20; seq += 1) {
    await world.pass(1_900);
    world.socket.say(said(seq, 'x'));
  }
  assert.equal(room.state, 'online');
});

test('a timer that fires late has not found a late frame', async () => {
  const world = new World();
  const { room, heard } = await enter(world);
  await world.sleep(300_000);
  assert.equal(room.state, 'online', 'what has come meanwhile is read first');
  world.socket.say(said(2, 'was waiting'));
  world.socket.say(ping(2));
  await world.pass(1_500);
  assert.deepEqual([room.state, heard.length], ['online', 1]);
  await world.pass(500);
  assert.equal(room.state, 'reconnecting', 'and then time counts as ever');
});

test('a tab whose timers are slowed down stays online', async () => {
  const world = new World();
  const { room } = await enter(world);
  const { setTimeout } = world;
  // As browsers do in the background: frames come in time, timers once a minute.
  world.setTimeout = (task, delay) => setTimeout.call(world, task, Math.ceil((world.now + delay) / 60_000) * 60_000 - world.now);
  for (let second = 0; second < 600; second += 1) {
    await world.pass(1_000);
    world.socket.say(ping(1));
  }
  assert.deepEqual([room.state, world.sockets.length], ['online', 1]);
});

test('even there a dead server is found', async () => {
  const world = new World();
  const { setTimeout } = world;
  world.setTimeout = (task, delay) => setTimeout.call(world, task, Math.ceil((world.now + delay) / 60_000) * 60_000 - world.now);
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
  await world.pass(999);
  assert.equal(room.state, 'online');
  await world.pass(1);
  assert.deepEqual([room.state, world.socket.closedWith], ['reconnecting', 4000]);
  await comeBack(world, '2', entered(1, { resumed: true, recovered: true }));
  assert.equal(room.state, 'online');
});

test('a page that wakes up with several events at once has one second look', async () => {
  const world = new World();
  const { room } = await enter(world);
  world.skip(10_000);
  world.tell('pageshow');
  world.tell('online');
  world.tell('visibilitychange', world.document);
  assert.equal(room.state, 'online');
  await world.pass(500);
  world.socket.say(ping(1));
  await world.pass(1_000);
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
    world.socket.say(ping(1));
    await world.pass(1_000);
    world.socket.say(ping(1));
  }
  assert.equal(world.sockets.length, 1);
});
