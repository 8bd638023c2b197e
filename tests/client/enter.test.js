// The first enter: the address, the options, what the server may answer.

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
  assert.deepEqual(world.socket.take(), [], 'nothing is sent before the welcome');

  world.socket.say(welcome('17'));
  assert.deepEqual(world.socket.take(), [{ event: 'enter', message: 'ann', roomId: 'tea' }]);
  world.socket.say(entered(8, { name: 'Ann', member: '17', num: 3 }));

  const room = await promise;
  assert.deepEqual(states, ['online']);
  assert.deepEqual([room.state, room.name, room.member, room.online], ['online', 'Ann', '17', 3]);
  assert.deepEqual(room.position, { epoch: 'E', seq: 8 });
  room.position.seq = 99;
  assert.equal(room.position.seq, 8, 'the position is a copy');
});

test('a server that leaves out what has a default is understood', async () => {
  const world = new World();
  const { promise } = begin(world);
  world.socket.accept();
  world.socket.say({ event: 'welcome', connection: '1' });
  world.socket.say({ event: 'welcome', connection: '1' }); // Once is enough.
  world.socket.say({ event: 'entered', roomId: 'tea', name: 'ann', member: '1', epoch: 'E', seq: 3, num: 1, resumed: false, recovered: false });
  const room = await promise;
  assert.deepEqual([room.member, room.position.seq], ['1', 3]);
  assert.equal(world.socket.take().length, 1);
  await world.pass(44_999);
  assert.equal(room.state, 'online');
  await world.pass(1);
  assert.equal(room.state, 'reconnecting', 'heartbeats are expected every 25 s and may be 20 s late');
});

test('addresses may be relative, http, or a URL', () => {
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

test('an address that makes no sense is refused with a clear error', async () => {
  for (const url of ['http://', 'ftp://chat.test/', 'mailto:ann@chat.test', 'wss://a b/']) {
    const rejects = (error) => error instanceof ChatError && error.code === 'bad_url' && error.message.includes(`"${url}"`);
    await assert.rejects(connect(url, { name: 'ann', global: new World() }), rejects, url);
  }
  const world = new World();
  world.location = undefined;
  await assert.rejects(connect('/chat', { name: 'ann', global: world }), { code: 'bad_url' });

  const refusing = new World();
  refusing.WebSocket = class { constructor() { throw new Error('mixed content'); } };
  await assert.rejects(connect('/chat', { name: 'ann', global: refusing }), { code: 'bad_url', message: /ws:\/\/chat.test\/chat: mixed content/ });
});

test('a platform without WebSockets is refused with a clear error', async () => {
  const world = new World();
  world.WebSocket = undefined;
  const rejects = { code: 'no_websocket', message: /no global WebSocket.*import\('ws'\)/ };
  await assert.rejects(connect('/chat', { name: 'ann', global: world }), rejects);
  await assert.rejects(connect('/chat', { global: world }), rejects);
});

test('options that are missing or wrong are refused with a clear error', async () => {
  const rejects = (begun, says) => assert.rejects(begun, (error) => {
    assert.ok(error instanceof ChatError && error.code === 'bad_options', String(error));
    assert.match(error.message, /connect\(url, \{ name, room \}\)/);
    assert.ok(error.message.includes(says), error.message);
    return true;
  });
  await rejects(connect('/chat', { room: 'tea' }), '`name` is missing');
  await rejects(connect('/chat', { room: 'tea', name: undefined }), '`name` is missing');
  await rejects(connect('/chat', { history: 9 }), '`name` is missing');
  for (const options of [null, 'ann', 7, ['ann'], () => {}]) await rejects(connect('/chat', options), 'options must be an object');
  const wrong = {
    name: [null, 7, {}, ['ann'], Symbol('ann')],
    room: [null, {}, [], NaN, Infinity, true],
    history: [null, -1, 1.5, NaN, '9'],
    token: [7, {}, true],
    signal: [null, {}, 'abort', new AbortController()],
    on: [null, 'message', () => {}, [], { message: 'hi' }, { message: 7 }],
    protocols: [null, 'bearer.T', [7], {}],
    maxQueue: [null, 0, -1, NaN, '128'],
    maxAttempts: [null, 0, NaN, '3'],
    attemptTimeout: [null, 0, -1, NaN, '15000'],
    backoff: [null, 500, [], { base: 0 }, { base: '500' }, { cap: NaN }, { cap: null }],
    global: [null, 'window', 7],
  };
  for (const [option, values] of Object.entries(wrong)) {
    const world = new World();
    for (const value of values) await rejects(connect('/chat', { name: 'ann', global: world, [option]: value }), `\`${option}\` must be`);
    assert.deepEqual([world.sockets.length, world.timers], [0, 0], option);
  }
  for (const url of [undefined, null, 7, {}]) await assert.rejects(connect(url, { name: 'ann', global: new World() }), { code: 'bad_url', message: /must be a string or a URL/ });
});

test('options may be left out as undefined, and a token and handlers as null too', async () => {
  for (const missing of [undefined, null]) {
    const world = new World();
    const { promise } = begin(world, { room: undefined, token: missing, on: { message: missing }, signal: undefined, protocols: undefined, maxQueue: undefined, backoff: { base: undefined } });
    await settled();
    world.socket.accept();
    world.socket.say(welcome('1'));
    world.socket.say(entered(0, { roomId: '' }));
    assert.equal((await promise).state, 'online');
  }
});

test('the id of a room is sent as a string, and no room is the one with the empty id', async () => {
  for (const [room, roomId] of [[42, '42'], [undefined, ''], ['', '']]) {
    const world = new World();
    begin(world, { room });
    world.socket.accept();
    world.socket.say(welcome('1'));
    assert.deepEqual(world.socket.take(), [{ event: 'enter', message: 'ann', roomId }]);
  }
});

test('most refusals of the first enter are final', async () => {
  for (const code of ['denied', 'bad_name', 'bad_room_id', 'name_taken', 'room_full', 'too_many_rooms', 'too_many_memberships']) {
    const world = new World();
    const { promise, states } = begin(world);
    world.socket.accept();
    world.socket.say(welcome('1'));
    world.socket.say({ event: 'error', code, message: 'no', roomId: 'tea' });
    await assert.rejects(promise, { name: 'ChatError', code, message: 'no' });
    assert.deepEqual(states, [`closed: ${code}`]);
    assert.equal(world.socket.closedWith, 1000);
    await world.pass(60_000);
    assert.deepEqual([world.sockets.length, world.timers], [1, 0]);
  }
});

test('refusals of the first enter that pass are tried again on the same connection', async () => {
  for (const [code, retryAfter, delay] of [['internal', undefined, 500], ['unavailable', undefined, 500], ['rate_limited', 300, 450]]) {
    const world = new World();
    const { promise, states } = begin(world);
    world.socket.accept();
    world.socket.say(welcome('1'));
    world.socket.take();
    world.socket.say({ event: 'error', code, message: 'later', roomId: 'tea', retryAfter });
    assert.deepEqual(states, [`connecting: ${code}`]);
    await world.pass(delay - 1);
    assert.deepEqual(world.socket.take(), [], code);
    await world.pass(1);
    assert.deepEqual(world.socket.take(), [{ event: 'enter', message: 'ann', roomId: 'tea' }], code);
    world.socket.say(entered(0));
    assert.equal((await promise).state, 'online');
    assert.equal(world.sockets.length, 1);
  }
});

test('a server that selects no subprotocol is of no use', async () => {
  const world = new World();
  const { promise } = begin(world);
  world.socket.accept('');
  await assert.rejects(promise, { code: 'protocol', message: 'the server at ws://chat.test/chat does not speak chat-rooms.v1' });
  assert.deepEqual(world.socket.sent, []);
  await world.pass(60_000);
  assert.deepEqual([world.sockets.length, world.live], [1, 0]);
});

test('keeps trying until it is aborted, and says why it fails', async () => {
  const world = new World();
  const giveUp = new AbortController();
  const reasons = [];
  const { promise } = begin(world, { signal: giveUp.signal, on: { state: ({ state, reason, retryAt }) => reasons.push({ state, reason, retryAt }) } });
  for (let n = 0; n < 20; n += 1) {
    if (world.socket.readyState < 2) world.socket.end();
    await world.pass(10_000);
  }
  assert.ok(world.sockets.length > 10);
  for (const { state, reason, retryAt } of reasons) {
    assert.deepEqual([state, reason.code, reason.closeCode], ['connecting', 'unreachable', 1006]);
    assert.match(reason.message, /ws:\/\/chat.test\/chat/);
    assert.ok(retryAt > 0);
  }
  giveUp.abort('enough');
  await assert.rejects(promise, { code: 'aborted', cause: 'enough' });
  const tried = world.sockets.length;
  await world.pass(60_000);
  assert.deepEqual([world.sockets.length, world.live, world.timers], [tried, 0, 0]);
});

test('gives up after the attempts that the application allows', async () => {
  const world = new World();
  const { promise, states } = begin(world, { maxAttempts: 3 });
  for (let n = 0; n < 3; n += 1) {
    await attempted(world);
    world.socket.end();
  }
  await assert.rejects(promise, (error) => error.code === 'gave_up' && error.closeCode === 1006 && error.cause.code === 'unreachable' && /^gave up after 3 attempts: no connection/.test(error.message));
  assert.deepEqual(states, ['connecting: unreachable', 'connecting: unreachable', 'closed: gave_up']);
  await world.pass(60_000);
  assert.deepEqual([world.sockets.length, world.timers], [3, 0]);
});

test('only attempts in a row count', async () => {
  const world = new World();
  const { room } = await enter(world, { maxAttempts: 3 });
  for (let round = 0; round < 3; round += 1) {
    world.socket.end();
    for (let n = 0; n < 2; n += 1) {
      await attempted(world);
      world.socket.end();
    }
    await attempted(world);
    world.socket.accept();
    world.socket.say(welcome('2'));
    world.socket.say(entered(1));
    assert.equal(room.state, 'online');
  }
  world.socket.end();
  for (let n = 0; n < 3; n += 1) {
    await attempted(world);
    assert.equal(room.state, 'reconnecting');
    world.socket.end();
  }
  assert.deepEqual([room.state, room.reason.code], ['closed', 'gave_up']);
});

test('an enter that is refused for the moment is an attempt too', async () => {
  const world = new World();
  const { promise } = begin(world, { maxAttempts: 2 });
  world.socket.accept();
  world.socket.say(welcome('1'));
  world.socket.say({ event: 'error', code: 'internal', message: 'oh', roomId: 'tea' });
  await world.pass(1_000);
  world.socket.say({ event: 'error', code: 'internal', message: 'oh', roomId: 'tea' });
  await assert.rejects(promise, { code: 'gave_up', message: 'gave up after 2 attempts: oh' });
});

test('aborted beforehand it never begins, and afterwards it leaves', async () => {
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
    if (steps > 0) world.socket.say(ping()); // Heartbeats are no answer.
    assert.equal(world.socket.closedWith, null, where);
    await world.pass(1_000);
    assert.equal(world.sockets[0].closedWith, 4000, where);
    assert.deepEqual(states, ['connecting: timeout'], where);
    await world.pass(500);
    assert.equal(world.sockets.length, 2, where);
  }
});
