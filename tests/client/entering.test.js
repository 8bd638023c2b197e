// How a room is entered for the first time, or isn't.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChatError, connect } from '../../src/browser/chat-rooms.js';
import { attempted, begin, enter, entered, ping, settled, welcome, World } from './world.js';

test('enters after the welcome, and is online', async () => {
  const world = new World();
  const { promise, states } = begin(world);
  await settled();
  assert.equal(world.socket.url, 'ws://chat.test/chat');
  assert.deepEqual(world.socket.offered, ['chat-rooms.v1']);
  world.socket.accept();
  assert.deepEqual(world.socket.take(), [], 'nothing is said before the welcome');

  world.socket.say(welcome('17'));
  assert.deepEqual(world.socket.take(), [{ event: 'enter', message: 'ann', roomId: 'tea' }]);
  world.socket.say(entered(8, { name: 'Ann', connection: '17', num: 3 }));

  const room = await promise;
  assert.deepEqual(states, ['online']);
  assert.deepEqual([room.state, room.name, room.id, room.online], ['online', 'Ann', '17', 3]);
  assert.deepEqual(room.position, { epoch: 'E', seq: 8 });
  room.position.seq = 99;
  assert.equal(room.position.seq, 8, 'the position is not the application\'s to change');
});

test('heartbeats are answered, from the first on', async () => {
  const world = new World();
  const { outcome } = begin(world);
  world.socket.accept();
  world.socket.say(ping(0));
  assert.deepEqual(world.socket.sent, [{ event: 'heartbeat', message: 'pong' }]);
  world.socket.say(welcome('1'));
  world.socket.say(entered(0));
  await settled();
  world.socket.say(ping(5));
  assert.equal(outcome.room.online, 5);
  world.socket.end();
  await attempted(world);
  world.socket.accept();
  world.socket.say(ping(0));
  assert.equal(outcome.room.online, 5, 'outside of the room nothing is known of it');
});

test('addresses may be relative, http, or an URL', () => {
  const urls = [
    ['/chat#top', 'ws://chat.test/chat'],
    ['https://a.test/x', 'wss://a.test/x'],
    ['wss://a.test/x?y', 'wss://a.test/x?y'],
    [new URL('http://a.test'), 'ws://a.test/'],
  ];
  for (const [url, expected] of urls) {
    const world = new World();
    connect(url, { name: 'ann', global: world });
    assert.equal(world.socket.url, expected);
  }
});

test('an address without sense is refused', async () => {
  await assert.rejects(connect('http://', { name: 'ann', global: new World() }), TypeError);
  const world = new World();
  world.WebSocket = class { constructor() { throw new SyntaxError('no such scheme'); } };
  await assert.rejects(connect('ftp://x', { name: 'ann', global: world }), { code: 'bad_request' });
});

test('room numbers stay numbers, and no room is no key', async () => {
  for (const [room, expected] of [[42, { roomId: 42 }], [undefined, {}], ['', { roomId: '' }]]) {
    const world = new World();
    begin(world, { room });
    world.socket.accept();
    world.socket.say(welcome('1'));
    assert.deepEqual(world.socket.take(), [{ event: 'enter', message: 'ann', ...expected }]);
  }
});

test('a token goes first', async () => {
  for (const token of ['T', () => 'T', async () => 'T']) {
    const world = new World();
    begin(world, { token, protocols: ['bearer.T'] });
    await settled();
    assert.deepEqual(world.socket.offered, ['chat-rooms.v1', 'bearer.T']);
    world.socket.accept();
    assert.deepEqual(world.socket.take(), [{ event: 'auth', message: 'T' }]);
  }
});

test('who has no token sends none', async () => {
  for (const token of [undefined, '', () => null, async () => undefined]) {
    const world = new World();
    begin(world, { token });
    await settled();
    world.socket.accept();
    assert.deepEqual(world.socket.take(), []);
  }
});

test('a refused token that is a string is final', async () => {
  const world = new World();
  const { promise, states } = begin(world, { token: 'T' });
  world.socket.accept();
  world.socket.say({ event: 'noAuth', message: 'expired' });
  await assert.rejects(promise, (error) => error instanceof ChatError && error.code === 'no_auth' && error.message === 'expired');
  assert.deepEqual(states, ['closed: no_auth']);
  await world.pass(600_000);
  assert.deepEqual([world.sockets.length, world.live, world.timers], [1, 0, 0]);
});

test('a token function is asked anew, for three refusals in a row', async () => {
  const world = new World();
  let asked = 0;
  const { promise, outcome } = begin(world, { token: async () => `T${asked += 1}` });
  for (const n of [1, 2, 3]) {
    await settled();
    assert.equal(world.sockets.length, n);
    assert.equal(outcome.error, null);
    world.socket.accept();
    assert.deepEqual(world.socket.take(), [{ event: 'auth', message: `T${n}` }]);
    world.socket.say({ event: 'noAuth', message: '过期'.repeat(100) });
    await world.pass(2_000);
  }
  await assert.rejects(promise, { code: 'no_auth' });
  assert.equal(asked, 3);
});

test('a refusal that is followed by success does not count', async () => {
  const world = new World();
  let refused = 0;
  const { room } = await enter(world, { token: () => 'T' });
  for (let round = 0; round < 4; round += 1) {
    world.socket.end();
    for (let n = 0; n < 2; n += 1) {
      await attempted(world);
      world.socket.accept();
      world.socket.say({ event: 'noAuth', message: 'expired' });
      refused += 1;
    }
    await attempted(world);
    world.socket.accept();
    world.socket.say(welcome('1'));
    world.socket.say(entered(1));
    assert.equal(room.state, 'online', `after ${refused} refusals`);
  }
});

test('a token function that fails is asked again', async () => {
  const world = new World();
  let asked = 0;
  const token = () => { asked += 1; if (asked < 3) throw new Error('no network'); return 'T'; };
  const { states } = begin(world, { token });
  await settled();
  assert.equal(world.sockets.length, 0);
  await world.pass(2_000);
  assert.deepEqual([asked, world.sockets.length], [3, 1]);
  assert.deepEqual(states, ['reconnecting: token', 'reconnecting: token']);
});

test('a token function that fails too late changes nothing', async () => {
  const world = new World();
  const waiting = [];
  const token = () => new Promise((_, reject) => { waiting.push(reject); });
  const { states } = begin(world, { token, attemptTimeout: 1_000 });
  await world.pass(1_600);
  waiting[0](new Error('no network'));
  await settled();
  assert.deepEqual([states, waiting.length], [['reconnecting: timeout'], 2]);
});

test('a token that comes too late is not used', async () => {
  const world = new World();
  const waiting = [];
  begin(world, { token: () => new Promise((resolve) => { waiting.push(resolve); }), attemptTimeout: 1_000 });
  await world.pass(1_600);
  assert.equal(waiting.length, 2, 'the first attempt was given up');
  waiting[0]('old');
  await settled();
  assert.equal(world.sockets.length, 0);
  waiting[1]('new');
  await settled();
  world.socket.accept();
  assert.deepEqual(world.socket.take(), [{ event: 'auth', message: 'new' }]);
});

test('before the first enter, a refusal is final whatever its code', async () => {
  for (const code of ['denied', 'bad_name', 'bad_room_id', 'room_full', 'too_many_rooms', 'internal']) {
    const world = new World();
    const { promise } = begin(world);
    world.socket.accept();
    world.socket.say(welcome('1'));
    world.socket.say({ event: 'error', code, message: 'no' });
    await assert.rejects(promise, { name: 'ChatError', code, message: 'no' });
    assert.equal(world.socket.closedWith, 1000);
    await world.pass(60_000);
    assert.equal(world.sockets.length, 1);
  }
});

test('once it was in, only what cannot pass is final', async () => {
  const codes = { denied: 'closed', bad_name: 'closed', bad_room_id: 'closed', room_full: 'reconnecting', too_many_rooms: 'reconnecting', internal: 'reconnecting' };
  for (const [code, state] of Object.entries(codes)) {
    const world = new World();
    const { room } = await enter(world);
    world.socket.end();
    await world.pass(500);
    world.socket.accept();
    world.socket.say(welcome('2'));
    world.socket.say({ event: 'error', code, message: 'no' });
    assert.deepEqual([room.state, room.reason.code], [state, code]);
    await world.pass(60_000);
    assert.equal(world.sockets.length > 2, state === 'reconnecting');
  }
});

test('a server that selects no subprotocol is of no use', async () => {
  const world = new World();
  const { promise } = begin(world);
  world.socket.accept('');
  await assert.rejects(promise, { code: 'protocol', message: 'the server at ws://chat.test/chat doesn\'t speak chat-rooms.v1' });
  assert.deepEqual(world.socket.sent, []);
  await world.pass(60_000);
  assert.deepEqual([world.sockets.length, world.live], [1, 0]);
});

test('keeps trying until it is aborted', async () => {
  const world = new World();
  const giveUp = new AbortController();
  const { promise, states } = begin(world, { signal: giveUp.signal });
  for (let n = 0; n < 20; n += 1) {
    if (world.socket.readyState < 2) world.socket.end();
    await world.pass(10_000);
  }
  assert.ok(world.sockets.length > 10);
  assert.deepEqual(new Set(states), new Set(['reconnecting: lost']));
  giveUp.abort('enough');
  await assert.rejects(promise, { code: 'aborted', cause: 'enough' });
  const tried = world.sockets.length;
  await world.pass(60_000);
  assert.deepEqual([world.sockets.length, world.live, world.timers], [tried, 0, 0]);
});

test('what is aborted beforehand never begins, and afterwards it leaves', async () => {
  const world = new World();
  await assert.rejects(connect('/chat', { name: 'ann', global: world, signal: AbortSignal.abort() }), { code: 'aborted' });
  assert.equal(world.sockets.length, 0);

  const giveUp = new AbortController();
  const { room } = await enter(world, { signal: giveUp.signal });
  giveUp.abort();
  assert.deepEqual([room.state, room.reason.code, world.socket.closedWith], ['closed', 'aborted', 1000]);
});

test('an attempt that is never answered is given up, wherever it got stuck', async () => {
  const stuck = { connecting: 0, opened: 1, welcomed: 2 };
  for (const [where, steps] of Object.entries(stuck)) {
    const world = new World();
    const { states } = begin(world);
    if (steps > 0) world.socket.accept();
    if (steps > 1) world.socket.say(welcome('1'));
    await world.pass(14_000);
    if (steps > 0) world.socket.say(ping(0)); // Heartbeats are no answer.
    assert.equal(world.socket.closedWith, null, where);
    await world.pass(1_000);
    assert.equal(world.sockets[0].closedWith, 4000, where);
    assert.deepEqual(states, ['reconnecting: timeout'], where);
    await world.pass(500);
    assert.equal(world.sockets.length, 2, where);
  }
});
