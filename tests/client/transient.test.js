// Transient events: hints that may get lost.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from '../../src/browser/chat-rooms.js';
import { begin, came, comeBack, enter, entered, ping, RATES, said, settled, welcome, World } from './world.js';

const DECLARED = { transient: ['typing', 'pointer'], rates: { ...RATES, transient: 20 } };
/** What another member has sent. */
const typing = (more = {}) => ({ event: 'typing', message: true, roomId: 'tea', name: 'bob', num: 2, member: 'b', ...more });

/** What the client has sent of an event, by its message. */
const messages = (socket, event) => socket.take().filter((frame) => frame.event === event).map(({ message }) => message);

/** Is in several rooms on one connection. */
async function inRooms(world, ids, settings = DECLARED, options = {}) {
  const heard = [];
  const note = (where) => (frame) => heard.push(`${where}: ${frame.event ?? frame.code}`);
  const opening = connect('/chat', { global: world, on: { '*': note('chat'), error: note('chat') }, ...options });
  await settled();
  world.socket.accept();
  world.socket.say(welcome('1', settings));
  if (options.token) world.socket.say({ event: 'authenticated' });
  const chat = await opening;
  const rooms = [];
  for (const roomId of ids) {
    const joining = chat.join(roomId, { name: 'ann', on: { '*': note(roomId) } });
    // Until the enter is sent.
    if (settings.rates?.empty) await world.pass(100);
    world.socket.say(entered(0, { roomId }));
    world.socket.say(came(1, '1', { roomId }));
    rooms.push(await joining);
  }
  heard.length = 0;
  world.socket.take();
  return { chat, rooms, heard };
}

test('a transient frame is sent at once and once, without a cid', async () => {
  const world = new World();
  const { room } = await enter(world, {}, DECLARED);
  assert.deepEqual([room.sendTransient('typing', true), room.sendTransient('pointer')], [true, true]);
  assert.deepEqual(world.socket.take(), [{ event: 'typing', message: true, roomId: 'tea' }, { event: 'pointer', roomId: 'tea' }]);
  world.socket.end();
  await comeBack(world, '2', entered(1, { resumed: true, recovered: true }), DECLARED);
  assert.deepEqual(world.socket.take(), [], 'it is not sent again');
});

test('a transient frame is dropped while the client is not in the room', async () => {
  const world = new World();
  const { room } = await enter(world, {}, DECLARED);
  world.socket.say({ event: 'left', roomId: 'tea', code: 'denied', message: 'no' });
  assert.equal(room.sendTransient('typing', true), false);
  room.enter();
  assert.equal(room.sendTransient('typing', true), false, 'the enter is not answered yet');
  world.socket.take();
  world.socket.say(entered(1, { recovered: true }));
  assert.equal(room.sendTransient('typing', true), true);
  world.socket.end();
  assert.equal(room.sendTransient('typing', true), false);
  await comeBack(world, '2', entered(1, { resumed: true, recovered: true }), DECLARED);
  assert.deepEqual(world.socket.take(), []);
  room.leave();
  assert.equal(room.sendTransient('typing', true), false);
});

test('a handler that is told of a lost connection can send nothing on it', async () => {
  const world = new World();
  const { chat, rooms: [tea] } = await inRooms(world, ['tea']);
  const results = [];
  chat.on('state', ({ state }) => results.push(state, tea.sendTransient('typing', true)));
  for (let n = 0; n < 30; n += 1) tea.sendTransient('pointer', n);
  world.socket.end();
  assert.deepEqual([results, world.timers], [['reconnecting', false], 1], 'only that of the next attempt');
});

test('what the server would not take is refused with a clear error', async () => {
  const world = new World();
  const { room } = await enter(world, {}, DECLARED);
  const length = JSON.stringify({ event: 'typing', message: '', roomId: 'tea' }).length;
  for (const [code, ...args] of [
    ['not_transient', 'message', 'hi'], ['not_transient', 'enter', 'ann'], ['not_transient', 'toString'], ['bad_options'], ['bad_options', { event: 'typing' }],
    ['too_big', 'typing', 'x'.repeat(1_025 - length)], ['too_big', 'typing', 'é'.repeat((1_026 - length) / 2)],
  ]) {
    assert.throws(() => room.sendTransient(...args), { name: 'ChatError', code }, code);
  }
  assert.deepEqual(world.socket.take(), []);
  assert.equal(room.sendTransient('typing', 'x'.repeat(1_024 - length)), true);
});

test('a server without transient events takes none', async () => {
  const world = new World();
  const { room } = await enter(world);
  assert.throws(() => room.sendTransient('typing', true), { code: 'not_transient' });
  const sending = room.send(true, { event: 'typing' });
  const [{ cid }] = world.socket.take();
  world.socket.say({ event: 'ack', cid, seq: 2 });
  assert.deepEqual(await sending, { seq: 2 }, 'there it is a message as any other');
});

test('a transient event is not sent as a message, which would never be acknowledged', async () => {
  const world = new World();
  const { promise, outcome } = begin(world);
  await settled();
  world.socket.accept();
  world.socket.say(welcome('1'));
  world.socket.say(entered(0));
  const room = await promise;
  world.socket.end();
  const [early, hi] = [room.send(true, { event: 'typing' }), room.send('hi')];
  early.catch(() => {});
  await comeBack(world, '2', entered(0, { resumed: true, recovered: true }), DECLARED);
  await assert.rejects(early, { code: 'transient' });
  await assert.rejects(room.send(true, { event: 'typing' }), { code: 'transient' });
  const [frame, ...more] = world.socket.take();
  assert.deepEqual([frame.message, more, outcome.room], ['hi', [], room]);
  world.socket.say({ event: 'ack', cid: frame.cid, seq: 2 });
  await hi;
});

test('beyond the rate the newest of each event is sent, as soon as possible', async () => {
  const world = new World();
  const { room } = await enter(world, {}, DECLARED);
  for (let n = 0; n < 100; n += 1) assert.equal(room.sendTransient('pointer', n), true);
  room.sendTransient('typing', false);
  room.sendTransient('typing', true);
  assert.deepEqual(messages(world.socket, 'pointer'), Array.from({ length: 20 }, (_, n) => n));
  await world.pass(50);
  assert.deepEqual(messages(world.socket, 'pointer'), [99]);
  await world.pass(50);
  assert.deepEqual(messages(world.socket, 'typing'), [true]);
  world.socket.say(ping());
  await world.pass(500);
  assert.deepEqual([world.socket.take(), world.timers], [[], 1], 'only that of the heartbeat');
});

test('never more are sent than the server takes, of all rooms together, and each room has its turn', async () => {
  for (const [rate, empty] of [[20, false], [20, true], [1, false], [7, true]]) {
    const world = new World();
    const capacity = 2 * rate;
    let [level, filledAt] = [empty ? 0 : capacity, world.now];
    const { rooms: [tea, coffee] } = await inRooms(world, ['tea', 'coffee'], { ...DECLARED, rates: { ...RATES, transient: rate, ...(empty && { empty }) } });
    const counts = { tea: 0, coffee: 0 };
    world.socket.onsent = ({ event, roomId }) => {
      if (event !== 'pointer') return;
      level = Math.min(capacity, level + ((world.now - filledAt) * rate) / 1000) - 1;
      filledAt = world.now;
      assert.ok(level > -1e-9, `a rate of ${rate} is exceeded`);
      counts[roomId] += 1;
    };
    for (let ms = 0; ms < 20_000; ms += 16) {
      tea.sendTransient('pointer', ms);
      coffee.sendTransient('pointer', ms);
      await world.pass(16);
      world.socket.say(ping());
    }
    assert.ok(counts.tea + counts.coffee >= 19 * rate, `${rate}: ${JSON.stringify(counts)}`);
    assert.ok(Math.abs(counts.tea - counts.coffee) <= rate + 1, `${rate}: ${JSON.stringify(counts)}`);
  }
});

test('a rate that is null is no limit, and one that is missing is 20', async () => {
  for (const [transient, sent] of [[null, 100], [undefined, 20]]) {
    const world = new World();
    const { room } = await enter(world, {}, { ...DECLARED, rates: { ...RATES, transient } });
    for (let n = 0; n < 100; n += 1) room.sendTransient('pointer', n);
    assert.equal(world.socket.take().length, sent);
  }
});

test('transient frames and messages do not cost each other anything', async () => {
  const world = new World();
  const { room } = await enter(world, {}, { ...DECLARED, rates: { messages: 10, bytes: null, burst: 2, transient: 20 } });
  for (let n = 0; n < 20; n += 1) room.sendTransient('pointer', n);
  world.socket.take();
  for (let n = 0; n < 20; n += 1) room.send(n).catch(() => {});
  assert.equal(world.socket.take().length, 9, 'the enter counts as well');
});

test('a transient frame that waits is dropped for a message, and with the room', async () => {
  const world = new World();
  const { rooms: [tea, coffee] } = await inRooms(world, ['tea', 'coffee']);
  const exhaust = () => { for (let n = 0; n < 21; n += 1) tea.sendTransient('pointer', n); };
  exhaust();
  coffee.sendTransient('typing', true);
  tea.send('hi').catch(() => {});
  world.socket.take();
  await world.pass(200);
  assert.deepEqual(world.socket.take(), [{ event: 'typing', message: true, roomId: 'coffee' }]);
  await world.pass(700);
  world.socket.say(ping());
  await world.pass(700);
  exhaust();
  tea.leave();
  world.socket.take();
  await world.pass(200);
  assert.deepEqual(world.socket.take(), []);
});

test('a transient frame overtakes no message of its room', async () => {
  const world = new World();
  const { rooms: [tea, coffee] } = await inRooms(world, ['tea', 'coffee'], { ...DECLARED, rates: { messages: 3, bytes: null, burst: 2, transient: 20 } });
  for (let n = 0; n < 5; n += 1) tea.send(n).catch(() => {});
  assert.deepEqual([tea.sendTransient('typing', true), coffee.sendTransient('typing', true)], [false, true]);
  const frames = [];
  for (let n = 0; n < 3; n += 1) {
    await world.pass(900);
    world.socket.say(ping());
    frames.push(...world.socket.take());
  }
  assert.deepEqual(frames.filter(({ event }) => event === 'message').map(({ message }) => message), [0, 1, 2, 3, 4]);
  assert.equal(tea.sendTransient('typing', true), true, 'they are sent, though not acknowledged');
});

test('the room is told of transient frames, which have no place in it', async () => {
  const world = new World();
  const { room } = await enter(world, {}, DECLARED);
  const seen = [];
  for (const type of ['typing', '*']) room.on(type, ({ event, name, seq }, info) => seen.push([type, event, name, seq, info]));
  const sending = room.send('hi');
  const [{ cid }] = world.socket.take();
  world.socket.say(typing({ cid }));
  world.socket.say(typing({ cid, member: '1' }));
  const info = (own) => ({ own, replayed: false, history: false });
  assert.deepEqual(seen, [
    ['typing', 'typing', 'bob', undefined, info(false)], ['*', 'typing', 'bob', undefined, info(false)],
    ['typing', 'typing', 'bob', undefined, info(true)], ['*', 'typing', 'bob', undefined, info(true)],
  ]);
  let isDone = false;
  sending.then(() => { isDone = true; });
  await settled();
  assert.deepEqual([isDone, room.position.seq], [false, 1]);
  world.socket.say(said(2, 'next'));
  assert.deepEqual([room.position.seq, room.state], [2, 'online']);
  world.socket.say({ event: 'ack', cid, seq: 3 });
  await sending;
});

test('with several rooms, each is told of its own, and the chat of none', async () => {
  const world = new World();
  const { rooms: [tea], heard } = await inRooms(world, ['tea', 'coffee']);
  world.socket.say(typing());
  world.socket.say({ event: 'pointer', roomId: 'coffee', num: 2 });
  world.socket.say(typing({ event: 'replaced by the policy' }));
  assert.deepEqual(heard.splice(0), ['tea: typing', 'coffee: pointer', 'tea: replaced by the policy']);
  tea.leave();
  world.socket.say(typing());
  world.socket.say({ event: 'pointer', roomId: 'tea', num: 2 });
  world.socket.say(typing({ roomId: 'elsewhere' }));
  assert.deepEqual(heard, [], 'it is in no such room');
  world.socket.say({ event: 'typing' });
  world.socket.say({ event: 'banner', roomId: 'coffee' });
  assert.deepEqual(heard, ['chat: typing', 'chat: banner'], 'the host says these to this connection only');
});

test('a refused transient frame is no refused enter and no message', async () => {
  const world = new World();
  const { chat, rooms: [tea], heard } = await inRooms(world, ['tea']);
  tea.sendTransient('typing', true);
  const sending = tea.send('hi');
  const joining = chat.join('coffee', { name: 'ann' });
  world.socket.say({ event: 'error', code: 'denied', message: 'be quiet' });
  world.socket.say({ event: 'error', code: 'not_entered', message: 'enter first' });
  assert.deepEqual([heard, tea.state], [['chat: denied'], 'online'], 'that one came too late is no news');
  const { cid } = world.socket.take().find(({ event }) => event === 'message');
  world.socket.say({ event: 'ack', cid, seq: 2 });
  world.socket.say(entered(0, { roomId: 'coffee' }));
  assert.deepEqual([(await sending).seq, (await joining).id], [2, 'coffee']);
});

test('transient frames that cross an expired token are no refused tokens', async () => {
  const world = new World();
  let tokens = 0;
  const { rooms: [tea], chat } = await inRooms(world, ['tea'], DECLARED, { token: async () => `token ${tokens += 1}` });
  for (let n = 0; n < 5; n += 1) tea.sendTransient('pointer', n);
  world.socket.say({ event: 'left', roomId: 'tea', code: 'token_expired', message: 'expired' });
  world.socket.say({ event: 'noAuth', message: 'expired' });
  await settled();
  for (let n = 0; n < 5; n += 1) world.socket.say({ event: 'noAuth', message: 'authenticate first' });
  await settled();
  assert.deepEqual([tokens, chat.state], [2, 'outside']);
  world.socket.say({ event: 'authenticated' });
  world.socket.say(entered(1, { recovered: true }));
  assert.deepEqual([tea.state, chat.state, world.sockets.length], ['online', 'online', 1]);
});

test('lone surrogates are replaced, because the server could not read them', async () => {
  const world = new World();
  const { room } = await enter(world, {}, DECLARED);
  room.sendTransient('typing', { text: 'a\ud83d b\ude00 \ud83d\ude00 \\ud83d \\\ud83d\u0001"\n', ['\ud83d']: 1 });
  assert.deepEqual(world.socket.take()[0].message, { text: 'a\ufffd b\ufffd \ud83d\ude00 \\ud83d \\\ufffd\u0001"\n', '\ufffd': 1 });
});
