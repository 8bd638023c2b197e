// What the application is told, and what it is not told.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attempted, comeBack, enter, entered, own, ping, said, settled, World } from './world.js';

/** Collects everything that handlers of these types are called with. */
function listen(room, ...types) {
  const seen = [];
  for (const type of types) room.on(type, (frame) => seen.push(`${type}: ${frame.event ?? '?'}`));
  return seen;
}

test('a frame reaches the handlers of its event and those of all frames', async () => {
  const world = new World();
  const { room } = await enter(world);
  const seen = listen(room, 'message', 'typing', 'out', '__proto__', 'constructor', '*');
  ['message', 'typing', 'out', '__proto__', 'constructor', 'toString'].forEach((event, n) => {
    world.socket.say({ event, roomId: 'tea', name: 'bob', num: 2, member: 'b', seq: n + 2 });
  });
  assert.deepEqual(seen, [
    'message: message', '*: message', 'typing: typing', '*: typing', 'out: out', '*: out', '__proto__: __proto__', '*: __proto__',
    'constructor: constructor', '*: constructor', '*: toString',
  ]);
});

test('a frame that is named like an event of the client only reaches the handlers of all frames', async () => {
  const world = new World();
  const { room } = await enter(world);
  const seen = listen(room, 'state', 'gap', 'overflow', '*');
  ['state', 'gap', 'overflow', '*'].forEach((event, n) => {
    world.socket.say({ event, roomId: 'tea', name: 'bob', num: 2, member: 'b', seq: n + 2 });
  });
  assert.deepEqual(seen, ['*: state', '*: gap', '*: overflow', '*: *']);
  assert.equal(room.position.seq, 5);
});

test('events of the protocol never reach the application', async () => {
  const world = new World();
  const { room } = await enter(world);
  const events = ['expiring', 'authenticated', 'welcome', 'entered', 'ack', 'lagged', 'heartbeat', 'noAuth', 'error'];
  const seen = listen(room, ...events.filter((event) => event !== 'error'), '*');
  world.socket.say({ event: 'expiring', in: 30_000 });
  world.socket.say({ event: 'authenticated', expiresIn: 30_000 });
  world.socket.say({ event: 'welcome', connection: '1' });
  world.socket.say(entered(1, { resumed: true, recovered: true }));
  world.socket.say({ event: 'ack', cid: 'x', seq: 1 });
  world.socket.say({ event: 'lagged', roomId: 'tea', missed: 1 });
  world.socket.say(ping());
  world.socket.say({ event: 'error', code: 'internal', message: 'oh' });
  world.socket.say({ event: 'noAuth', message: 'no' });
  assert.deepEqual(seen, []);
});

test('the host may speak to one connection, also outside of the room', async () => {
  const world = new World();
  const { room } = await enter(world);
  const seen = listen(room, 'typing', '*');
  world.socket.say({ event: 'typing' });
  world.socket.say({ event: 'left', roomId: 'tea', code: 'denied', message: 'no' });
  world.socket.say({ event: 'typing' });
  world.socket.say({ why: 'an object without an event' });
  assert.deepEqual(seen, ['typing: typing', '*: typing', 'typing: typing', '*: typing', '*: ?']);
});

test('a handler is taken away again, and one that throws harms no other', async () => {
  const world = new World();
  const { room } = await enter(world);
  const uncaught = [];
  const listeners = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  process.on('uncaughtException', (error) => uncaught.push(error.message));
  const seen = [];
  room.on('message', () => { throw new Error('of the application'); });
  const stop = room.on('message', ({ message }) => { seen.push(message); });
  world.socket.say(said(2, 'a'));
  await settled();
  stop();
  world.socket.say(said(3, 'b'));
  await settled();
  process.removeAllListeners('uncaughtException');
  for (const listener of listeners) process.on('uncaughtException', listener);
  assert.deepEqual(seen, ['a']);
  assert.deepEqual(uncaught, ['of the application', 'of the application']);
  assert.deepEqual([room.state, room.position.seq], ['online', 3]);
});

test('frames that can\'t be read are reported, and are no reason to go', async () => {
  const world = new World();
  const { room, heard } = await enter(world);
  const unreadable = ['', 'null', '[]', '7', '"text"', '{"event":"message"', '{"event":"message","message":"\\x","roomId":"tea","seq":2}', new ArrayBuffer(8)];
  for (const data of unreadable) world.socket.sayText(data);
  assert.deepEqual(heard.map(({ type, value }) => `${type}: ${value.code}`), unreadable.map(() => 'error: bad_frame'));
  assert.deepEqual([room.state, room.member, room.position.seq], ['online', '1', 1]);
  world.socket.say(said(2, 'after'));
  assert.deepEqual([heard.at(-1).value.message, room.position.seq], ['after', 2], 'none of them was a frame of the room');
});

test('a frame of the room that can\'t be read is a gap of one', async () => {
  const world = new World();
  const { room, heard } = await enter(world);
  world.socket.sayText('{"event":"message","message":"\\x","roomId":"tea","seq":2}');
  world.socket.say(said(3, 'after'));
  assert.deepEqual(heard.map(({ type }) => type), ['error', 'gap', 'message']);
  assert.deepEqual(heard[1].value, { before: { epoch: 'E', seq: 1 }, after: { epoch: 'E', seq: 2 } });
  assert.deepEqual([room.state, room.position.seq, world.sockets.length], ['online', 3, 1]);
  world.socket.say(said(5, 'one is missing'));
  assert.equal(room.state, 'reconnecting', 'what is lost without a trace can be had again');
});

test('more missing frames than unreadable ones are had again', async () => {
  const world = new World();
  const { room } = await enter(world);
  world.socket.sayText('{');
  world.socket.say(said(4, 'after'));
  assert.deepEqual([room.state, room.reason.code, room.position.seq], ['reconnecting', 'gap', 1]);
});

test('a replay with a frame that can\'t be read comes to its end all the same', async () => {
  const world = new World();
  const { room, heard } = await enter(world);
  const sending = room.send('a');
  const [a] = world.socket.take();
  world.socket.end();
  await comeBack(world, '2', entered(3, { member: '2', recovered: true, replayed: 2 }));
  world.socket.say(said(2, 'before'));
  world.socket.sayText('{"event":"message","message":"\\x","roomId":"tea","seq":3}');
  assert.deepEqual(world.socket.take(), [a], 'what was not in the replay is sent again');
  world.socket.say({ event: 'ack', cid: a.cid, seq: 4 });
  assert.deepEqual(await sending, { seq: 4 });
  world.socket.say(own(4, 'a', a.cid, { member: '2' }));
  assert.deepEqual(heard.map(({ type }) => type), ['message', 'error', 'gap', 'message']);
});

test('a frame without an event has its place in the room', async () => {
  const world = new World();
  const { room } = await enter(world);
  const seen = listen(room, 'message', 'undefined', '*');
  world.socket.say({ text: 'from the host', num: 1, roomId: 'tea', seq: 2 });
  world.socket.say({ event: 7, num: 1, roomId: 'tea', seq: 3 });
  world.socket.say(said(4, 'after'));
  assert.deepEqual(seen, ['*: ?', '*: 7', 'message: message', '*: message']);
  assert.equal(room.position.seq, 4);
});

test('frames of a room that has not been entered yet are not its frames', async () => {
  const world = new World();
  const { heard } = await enter(world);
  world.socket.end();
  await attempted(world);
  world.socket.accept();
  world.socket.say(said(2, 'too early'));
  assert.deepEqual(heard, []);
});

test('after a handler has left, no frame comes', async () => {
  const world = new World();
  const { room, heard } = await enter(world);
  room.on('gap', () => room.leave());
  world.socket.sayText('{');
  world.socket.say(said(3, 'after the gap'));
  assert.deepEqual([room.state, heard.map(({ type }) => type)], ['closed', ['error', 'gap']]);
});

test('a handler may leave, whatever it is told', async () => {
  for (const [type, frame] of [
    ['message', said(2, 'x')], ['*', said(2, 'x')], ['gap', { event: 'lagged', roomId: 'tea', missed: 1 }], ['error', { event: 'error', code: 'x', message: 'y' }],
    ['state', { event: 'left', roomId: 'tea', code: 'token_expired', message: 'expired' }], ['error', null],
  ]) {
    const world = new World();
    const { room } = await enter(world);
    room.on(type, () => room.leave());
    world.socket.sayText(JSON.stringify(frame) ?? '');
    await settled();
    assert.deepEqual([room.state, world.live, world.timers], ['closed', 0, 0], type);
  }
});
