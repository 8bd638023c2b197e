// Direct messages: to and from users, outside of rooms.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from '../../src/browser/chat-rooms.js';
import { attempted, begin, came, entered, LIMITS, said, settled, welcome, World } from './world.js';

const direct = (number, message) => ({ event: 'direct', message, from: { user: 'bob' }, direct: number });
const resumed = (member, more = {}) => ({ event: 'resumed', member, rooms: [], ...more });

/** Opens a connection in no room. `heard` collects messages and gaps. */
async function open(options = {}) {
  const world = new World();
  const heard = [];
  const on = {
    direct: (frame, info) => heard.push([frame.direct, frame.message, info]),
    directGap: ({ missed }) => heard.push({ missed }),
  };
  const opening = connect('/chat', { global: world, on, ...options });
  await settled();
  world.socket.accept();
  world.socket.say(welcome('1'));
  const chat = await opening;
  return { world, chat, heard, numbers: () => heard.splice(0).map((it) => it.missed ? it : it[0]) };
}

/** The connection is lost, and there is another. Returns what the client sends then. */
async function cut(world, connection, settings = {}) {
  world.socket.end();
  await attempted(world);
  world.socket.accept();
  world.socket.say(welcome(connection, settings));
  return world.socket.take();
}

/** How the promises have ended so far: the values, or the codes of the errors; null if they have not. */
function outcomes(promises) {
  const all = promises.map(() => null);
  for (const [n, promise] of promises.entries()) {
    promise.then((value) => { all[n] = value; }, ({ code }) => { all[n] = code; });
  }
  return all;
}

test('a message to a user is acknowledged with the number of connections that it has reached', async () => {
  const { world, chat } = await open();
  const sending = chat.sendTo('bob', { text: 'hi' }, { ref: 7, to: 'eve', event: 'x' });
  const [{ cid, ...frame }] = world.socket.take();
  assert.deepEqual(frame, { event: 'direct', message: { text: 'hi' }, to: 'bob', ref: 7 });
  assert.match(cid, /^[0-9a-f]{24}$/);
  world.socket.say({ event: 'ack', cid, reached: 2 });
  assert.equal(await sending, 2);
  const other = chat.sendTo('nobody', 1);
  world.socket.say({ event: 'ack', cid: world.socket.take()[0].cid, reached: 0 });
  assert.equal(await other, 0);
});

// Not all nodes of the server could be reached. Those that have got the message know it by its `cid`.
test('a message is sent again under its id when the server is available', async () => {
  const { world, chat } = await open();
  const sending = chat.sendTo('bob', 'hi');
  const [message] = world.socket.take();
  for (let n = 0; n < 3; n += 1) {
    world.socket.say({ event: 'error', code: 'unavailable', message: 'later', cid: message.cid, retryAfter: 1_000 });
    await world.pass(900);
    assert.deepEqual(world.socket.take(), []);
    await world.pass(101);
    assert.deepEqual(world.socket.take(), [message]);
  }
  world.socket.say({ event: 'ack', cid: message.cid, reached: 2 });
  assert.equal(await sending, 2);
});

test('a room with a connection of its own sends and receives them too', async () => {
  const world = new World();
  const { promise } = begin(world);
  await settled();
  world.socket.accept();
  world.socket.say(welcome('1'));
  world.socket.say(entered(0));
  const room = await promise;
  world.socket.say(came(1, '1'));
  world.socket.take();
  const heard = [];
  room.on('direct', ({ from, message }, info) => heard.push([from, message, info]));
  world.socket.say(direct(1, 'psst'));
  assert.deepEqual(heard, [[{ user: 'bob' }, 'psst', { own: false, replayed: false, history: false }]]);
  const sending = room.sendTo('bob', 'hi');
  world.socket.say({ event: 'ack', cid: world.socket.take()[0].cid, reached: 1 });
  assert.equal(await sending, 1);
  assert.equal(room.position.seq, 1);
});

test('each is taken once, whatever its event and room', async () => {
  const { world, chat, heard } = await open();
  const others = [];
  chat.on('*', ({ event, direct: number }) => others.push([event, number]));
  world.socket.say(direct(1, 'a'));
  world.socket.say({ event: 'state', roomId: 'tea', direct: 2 });
  world.socket.say({ event: 'invitation', roomId: 'tea', direct: 3 });
  world.socket.say({ event: 'entered', roomId: 'tea', direct: 3 });
  world.socket.say(direct(1, 'again'));
  world.socket.say({ event: 'direct', message: 'without a number' });
  assert.deepEqual(others, [['direct', 1], ['state', 2], ['invitation', 3], ['direct', undefined]]);
  assert.deepEqual(heard.map(([, message]) => message), ['a', 'without a number']);
});

test('the ones that were missed follow a resumption', async () => {
  const { world, numbers } = await open();
  for (const number of [1, 2]) world.socket.say(direct(number));
  const [resume] = await cut(world, '2');
  assert.deepEqual(resume, { event: 'resume', message: ['token 1'], direct: 2, member: '1' });
  // Of the connection's own session.
  world.socket.say(direct(1, 'to be repeated'));
  assert.deepEqual(numbers(), [1, 2]);
  world.socket.say(resumed('1', { direct: 2 }));
  for (const number of [3, 4, 5]) world.socket.say(direct(number));
  assert.deepEqual(numbers(), [3, 4, 5]);
  assert.deepEqual((await cut(world, '3'))[0], { event: 'resume', message: ['token 2'], direct: 5, member: '1' });
});

test('the application is told how many are lost', async () => {
  const { world, numbers } = await open();
  world.socket.say(direct(1));
  await cut(world, '2');
  world.socket.say(resumed('1', { direct: 4 }));
  world.socket.say(direct(5));
  assert.deepEqual(numbers(), [1, { missed: 3 }, 5]);
});

test('another session has numbers of its own', async () => {
  const { world, numbers } = await open();
  for (const number of [1, 2, 3]) world.socket.say(direct(number));
  await cut(world, '2');
  await cut(world, '3');
  // The session of the connection in between, which has got nothing.
  world.socket.say(resumed('2', { direct: 1 }));
  world.socket.say(direct(2));
  assert.deepEqual(numbers(), [1, 2, 3, { missed: 1 }, 2]);
  assert.deepEqual((await cut(world, '4'))[0], { event: 'resume', message: ['token 3'], direct: 2, member: '2' });
});

test('if no session is resumed, those of the new one follow', async () => {
  const { world, numbers } = await open();
  for (const number of [1, 2]) world.socket.say(direct(number));
  await cut(world, '2');
  world.socket.say(direct(1));
  world.socket.say({ event: 'resumed', rooms: [] });
  world.socket.say(direct(1));
  world.socket.say(direct(2));
  assert.deepEqual(numbers(), [1, 2, 1, 2]);
  assert.deepEqual((await cut(world, '3'))[0], { event: 'resume', message: ['token 2'], direct: 2, member: '2' });
});

test('a client without a token for a resume takes them at once', async () => {
  const world = new World();
  const heard = [];
  const opening = connect('/chat', { global: world, on: { direct: ({ message }) => heard.push(message) } });
  await settled();
  const withoutSessions = { resume: undefined, resumeWindow: 0 };
  world.socket.accept();
  world.socket.say(welcome('1', withoutSessions));
  await opening;
  world.socket.say(direct(1, 'a'));
  assert.deepEqual(await cut(world, '2', withoutSessions), []);
  world.socket.say(direct(1, 'b'));
  assert.deepEqual(heard, ['a', 'b']);
});

test('a client without direct messages resumes as before', async () => {
  const { world } = await open();
  assert.deepEqual(await cut(world, '2'), [{ event: 'resume', message: ['token 1'] }]);
});

test('messages wait for a connection and its session, and keep their order and ids', async () => {
  const { world, chat } = await open();
  const first = [chat.sendTo('bob', 1), chat.sendTo('cid', 2)];
  const before = world.socket.take();
  world.socket.say({ event: 'ack', cid: before[0].cid, reached: 1 });
  world.socket.end();
  const all = outcomes([...first, chat.sendTo('bob', 3)]);
  await attempted(world);
  world.socket.accept();
  world.socket.say(welcome('2'));
  assert.deepEqual(world.socket.take().map(({ event }) => event), ['resume']);
  world.socket.say(resumed('1'));
  const after = world.socket.take();
  assert.deepEqual(after.map(({ message }) => message), [2, 3]);
  assert.equal(after[0].cid, before[1].cid);
  for (const { cid } of after) world.socket.say({ event: 'ack', cid, reached: 0 });
  await settled();
  assert.deepEqual(all, [1, 0, 0]);
});

test('messages to users and to a room do not wait for each other', async () => {
  const { world, chat } = await open();
  const joining = chat.join('tea', { name: 'ann' });
  world.socket.take();
  chat.sendTo('bob', 1);
  assert.deepEqual(world.socket.take().map(({ message }) => message), [1]);
  world.socket.say(entered(0));
  const room = await joining;
  world.socket.say(came(1, '1'));
  const sending = room.send('hi');
  world.socket.say(said(2, 'hi', { member: '1', cid: world.socket.take()[0].cid }));
  assert.deepEqual(await sending, { seq: 2 });
});

test('what the server refuses rejects, or is sent again before later ones', async () => {
  const { world, chat } = await open();
  const all = outcomes(['denied', 'too_big', 'internal', 'rate', 'later'].map((message) => chat.sendTo('bob', message)));
  const [denied, big, internal, rate, later] = world.socket.take();
  for (const [{ cid }, code] of [[denied, 'denied'], [big, 'too_big'], [internal, 'internal']]) {
    world.socket.say({ event: 'error', code, message: 'no', cid });
  }
  world.socket.say({ event: 'error', code: 'rate_limited', message: 'no', cid: rate.cid, retryAfter: 500 });
  world.socket.say({ event: 'ack', cid: later.cid, reached: 1 });
  await settled();
  assert.deepEqual(all, ['denied', 'too_big', 'internal', null, 1]);
  chat.sendTo('bob', 'last');
  await world.pass(499);
  assert.deepEqual(world.socket.take(), []);
  await world.pass(1);
  assert.deepEqual(world.socket.take().map(({ message, cid }) => [message, cid === rate.cid]), [['rate', true], ['last', false]]);
  world.socket.say({ event: 'ack', cid: rate.cid, reached: 2 });
  await settled();
  assert.equal(all[3], 2);
});

test('a frame that the server could not read rejects the oldest message', async () => {
  const { world, chat } = await open();
  const all = outcomes([chat.sendTo('', 1), chat.sendTo('bob', 2)]);
  const [, { cid }] = world.socket.take();
  world.socket.say({ event: 'error', code: 'bad_shape', message: 'no' });
  world.socket.say({ event: 'ack', cid, reached: 0 });
  await settled();
  assert.deepEqual(all, ['bad_shape', 0]);
});

test('what cannot be sent is refused at once', async () => {
  const { world, chat } = await open({ maxQueue: 2 });
  world.socket.end();
  const all = outcomes([1, 2, 3].map((message) => chat.sendTo('bob', message)));
  await settled();
  assert.deepEqual(all, [null, null, 'overflow']);
  await assert.rejects(chat.sendTo(7, 'hi'), { code: 'bad_options' });
  await assert.rejects(chat.sendTo('bob', 'hi', 'extra'), { code: 'bad_options' });
  chat.close();
  await settled();
  assert.deepEqual(all, ['closed', 'closed', 'overflow']);
  await assert.rejects(chat.sendTo('bob', 'hi'), { code: 'closed' });
});

test('the limits of the server apply', async () => {
  const { world, chat } = await open();
  await cut(world, '2', { limits: { ...LIMITS, messageBytes: 200, cids: 2 } });
  world.socket.say(resumed('1'));
  await assert.rejects(chat.sendTo('bob', 'x'.repeat(200)), { code: 'too_big' });
  for (const message of [1, 2, 3]) chat.sendTo('bob', message);
  const frames = world.socket.take();
  assert.deepEqual(frames.map(({ message }) => message), [1, 2]);
  world.socket.say({ event: 'ack', cid: frames[0].cid, reached: 0 });
  assert.deepEqual(world.socket.take().map(({ message }) => message), [3]);
});

test('nothing is sent before the server has accepted a token', async () => {
  const world = new World();
  const tokens = ['old', 'new'];
  const opening = connect('/chat', { global: world, token: () => tokens.shift() });
  await settled();
  world.socket.accept();
  world.socket.say(welcome('1'));
  world.socket.say({ event: 'authenticated' });
  const chat = await opening;
  world.socket.say({ event: 'noAuth', message: 'expired' });
  const sending = chat.sendTo('bob', 'hi');
  await settled();
  assert.deepEqual(world.socket.take().map(({ event, message }) => [event, message]), [['auth', 'old'], ['auth', 'new']]);
  world.socket.say({ event: 'authenticated' });
  const [{ cid, message }] = world.socket.take();
  assert.equal(message, 'hi');
  world.socket.say({ event: 'ack', cid, reached: 0 });
  assert.equal(await sending, 0);
});

test('a chat that is idle connects again', async () => {
  const { world, chat } = await open();
  world.socket.end(4002, 'no room was entered');
  assert.equal(chat.state, 'idle');
  const sending = chat.sendTo('bob', 'hi');
  await settled();
  world.socket.accept();
  world.socket.say(welcome('2'));
  const [{ cid, message }] = world.socket.take();
  assert.equal(message, 'hi');
  world.socket.say({ event: 'error', code: 'denied', message: 'authenticate first', cid });
  await assert.rejects(sending, { code: 'denied' });
});

test('a message that its sender sends again in another session is taken once', async () => {
  const { world, heard } = await open();
  const message = (number, user, cid) => ({ ...direct(number, cid), from: { user }, cid });
  const hear = (...frame) => {
    world.socket.say(message(...frame));
    return heard.splice(0).length;
  };
  assert.deepEqual([hear(1, 'bob', 'x'), hear(2, 'bob', 'x'), hear(3, 'eve', 'x'), hear(4, 'bob', 'y')], [1, 0, 1, 1]);
  await cut(world, '2');
  world.socket.say(resumed('2'));
  heard.splice(0);
  assert.equal(hear(1, 'bob', 'x'), 0);
  for (let n = 0; n < 256; n += 1) assert.equal(hear(2 + n, 'bob', `z${n}`), 1);
  assert.equal(hear(300, 'bob', 'x') > 0, true, 'the number of ids is bounded');
  // What the host sends has no sender, and may look as if it came twice.
  world.socket.say({ event: 'direct', message: 1, cid: 'x', direct: 301 });
  world.socket.say({ event: 'direct', message: 1, cid: 'x', direct: 302 });
  assert.equal(heard.filter(([number]) => number > 300).length, 2);
});
