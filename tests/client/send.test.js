// What is sent arrives once and in order, or its sender is told why not.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { messageTime } from '../../src/browser/chat-rooms.js';
import { came, comeBack, enter, entered, left, LIMITS, NO_RATES, own, said, settled, World } from './world.js';

/** How a promise has ended so far. */
function outcomes(promises) {
  const seen = promises.map(() => 'waits');
  promises.forEach((promise, n) => promise.then(({ seq }) => { seen[n] = seq; }, ({ code }) => { seen[n] = code; }));
  return seen;
}

const texts = (socket) => socket.take().map(({ message }) => message);

test('a message is sent at once, and done when acknowledged', async () => {
  const world = new World();
  const { room } = await enter(world);
  const seen = outcomes([room.send({ text: 'hi' }), room.send('x', { event: 'typing', to: ['bob'], roomId: 'another', cid: 'mine' })]);
  const [hi, typing] = world.socket.take();
  assert.deepEqual(hi, { event: 'message', message: { text: 'hi' }, roomId: 'tea', cid: hi.cid });
  assert.deepEqual(typing, { event: 'typing', message: 'x', to: ['bob'], roomId: 'tea', cid: typing.cid });
  assert.notEqual(hi.cid, typing.cid);
  assert.ok(hi.cid.length <= 32, 'well below the least that a server may allow');

  await settled();
  assert.deepEqual(seen, ['waits', 'waits']);
  world.socket.say({ event: 'ack', cid: hi.cid, seq: 2 });
  world.socket.say({ event: 'ack', cid: 'of somebody else', seq: 3 });
  await settled();
  assert.deepEqual(seen, [2, 'waits']);
});

test('a message has an id, and the id a time', async () => {
  const world = new World();
  const { room } = await enter(world);
  const sent = [room.send('hi'), room.send('there')];
  const [hi, there] = world.socket.take();
  world.socket.say({ event: 'ack', cid: hi.cid, seq: 2, id: 890_123_456_789_504 });
  world.socket.say(own(2, 'hi', hi.cid, { id: 890_123_456_789_504 }));
  world.socket.say(own(3, 'there', there.cid, { id: 890_123_456_789_505 }));
  assert.deepEqual(await Promise.all(sent), [{ seq: 2, id: 890_123_456_789_504 }, { seq: 3, id: 890_123_456_789_505 }]);
  const time = messageTime(890_123_456_789_504);
  assert.equal(time.toISOString(), new Date(1_577_836_800_000 + 890_123_456_789_504 / 4096).toISOString());
});

test('an object that changes afterwards has been sent as it was', async () => {
  const world = new World();
  const { room } = await enter(world);
  world.socket.end();
  const message = { text: 'before' };
  outcomes([room.send(message)]);
  message.text = 'after';
  await comeBack(world, '2', entered(1, { resumed: true, recovered: true }));
  assert.deepEqual(texts(world.socket), [{ text: 'before' }]);
});

test('ids of messages can\'t be guessed', async () => {
  const world = new World();
  const { room } = await enter(world, { maxQueue: 300 }, { rates: NO_RATES });
  outcomes(Array.from({ length: 100 }, (_, n) => room.send(n)));
  const cids = world.socket.take().map(({ cid }) => cid);
  assert.equal(new Set(cids).size, 100);
  for (const cid of cids) assert.match(cid, /^[0-9a-f]{24}$/); // 96 bits.
  for (let place = 0; place < 24; place += 1) {
    assert.ok(new Set(cids.map((cid) => cid[place])).size > 4, 'every digit is random');
  }
});

test('what the client has sent is its own, and nobody can pretend to have sent it', async () => {
  const world = new World();
  const { room, heard } = await enter(world);
  const seen = outcomes([room.send('a'), room.send('b')]);
  const [a, b] = world.socket.take();
  world.socket.say(said(2, 'forged', { cid: b.cid }));
  world.socket.say({ event: 'ack', cid: a.cid, seq: 3 });
  world.socket.say(own(3, 'a', a.cid));
  await settled();
  assert.deepEqual(seen, [3, 'waits'], 'a frame of another member acknowledges nothing');
  world.socket.say(own(4, 'b', b.cid)); // Before its acknowledgement.
  world.socket.say({ event: 'ack', cid: b.cid, seq: 4 });
  world.socket.say(said(5, 'a', { cid: a.cid }));
  world.socket.say(said(6, 'of ann in name only', { name: 'ann' }));
  await settled();
  assert.deepEqual(seen, [3, 4]);
  assert.deepEqual(heard.map(({ value, info }) => [value.message, info.own]), [
    ['forged', false], ['a', true], ['b', true], ['a', false], ['of ann in name only', false],
  ]);
});

test('a frame that names no member is not its own, and acknowledges nothing', async () => {
  for (const member of ['1', undefined]) { // As `entered` names it.
    const world = new World();
    const { room, heard } = await enter(world);
    world.socket.end();
    await comeBack(world, '2', entered(3, { member, recovered: true, replayed: 2 }));
    const seen = outcomes([room.send('a')]);
    const [{ cid }] = world.socket.take();
    const frames = [undefined, null, 1, '', {}].map((named, n) => said(n + 2, 'a', { cid, member: named }));
    for (const frame of frames) world.socket.say(frame);
    await settled();
    assert.deepEqual([seen, heard.map(({ info }) => info.own)], [['waits'], frames.map(() => false)]);
  }
});

test('a frame of an earlier membership is its own in a replay only', async () => {
  const world = new World();
  const { room, heard } = await enter(world);
  const seen = outcomes([room.send('a'), room.send('b')]);
  const [a, b] = world.socket.take();
  world.socket.end();
  await comeBack(world, '2', entered(2, { member: '2', recovered: true, replayed: 1 }));
  world.socket.say(own(2, 'a', a.cid));
  world.socket.say(own(3, 'b', b.cid));
  await settled();
  assert.deepEqual([seen, heard.map(({ info }) => info.own)], [[2, 'waits'], [true, false]]);
  world.socket.say(own(4, 'b', b.cid, { member: '2' }));
  await settled();
  assert.deepEqual([seen, heard.at(-1).info.own], [[2, 4], true]);
});

test('what the host drops is acknowledged with the place of the message before it', async () => {
  const world = new World();
  const { room, heard } = await enter(world);
  const seen = outcomes([room.send('a'), room.send('dropped')]);
  const [a, dropped] = world.socket.take();
  world.socket.say({ event: 'ack', cid: a.cid, seq: 2 });
  world.socket.say({ event: 'ack', cid: dropped.cid, seq: 2 });
  world.socket.say(own(2, 'a', a.cid));
  await settled();
  assert.deepEqual(seen, [2, 2]);
  assert.deepEqual(heard.map(({ info }) => info.own), [true]);
});

test('while away messages wait, and go out in order with what was unacknowledged', async () => {
  const world = new World();
  const { room } = await enter(world);
  const seen = outcomes([room.send('a'), room.send('b'), room.send('c')]);
  const [a, b, c] = world.socket.take();
  world.socket.say({ event: 'ack', cid: a.cid, seq: 2 });
  world.socket.end();
  seen.push(...outcomes([room.send('d')]));
  await comeBack(world, '2', entered(4, { resumed: true, recovered: true }));
  const again = world.socket.take();
  assert.deepEqual(again.map(({ message }) => message), ['b', 'c', 'd']);
  assert.deepEqual(again.slice(0, 2), [b, c], 'under the same cids');
  world.socket.say({ event: 'ack', cid: b.cid, seq: 3 });
  assert.deepEqual(texts(world.socket), [], 'each once on a connection');
  await settled();
  assert.deepEqual(seen, [2, 3, 'waits', 'waits']);
});

test('a client that has entered anew finds its messages in the replay, and sends only the rest', async () => {
  const world = new World();
  const { room } = await enter(world);
  const seen = outcomes([room.send('a'), room.send('b')]);
  const [a, b] = world.socket.take();
  world.socket.end();
  await comeBack(world, '2', entered(3, { member: '2', recovered: true }));
  assert.deepEqual(texts(world.socket), [], 'the replay is not at its end');
  world.socket.say(own(2, 'a', a.cid));
  assert.deepEqual(texts(world.socket), []);
  world.socket.say(left(3, '1'));
  assert.deepEqual(world.socket.take(), [b]);
  await settled();
  assert.deepEqual(seen, [2, 'waits']);
});

test('the session of an enter that was never answered remembers nothing of the one before', async () => {
  const world = new World();
  const { room } = await enter(world);
  const seen = outcomes([room.send('a'), room.send('b')]);
  const [a, b] = world.socket.take();
  world.socket.end();
  await comeBack(world, '3', entered(4, { member: '2', resumed: true, recovered: true }));
  assert.deepEqual(texts(world.socket), []);
  world.socket.say(own(2, 'a', a.cid));
  world.socket.say(left(3, '1'));
  world.socket.say(came(4, '2'));
  assert.deepEqual(world.socket.take(), [b]);
  await settled();
  assert.deepEqual(seen, [2, 'waits']);
});

test('the same where the replay was cut off', async () => {
  const world = new World();
  const { room, heard } = await enter(world);
  outcomes([room.send('a')]);
  const [a] = world.socket.take();
  world.socket.end();
  await comeBack(world, '2', entered(3, { member: '2', recovered: true }));
  world.socket.end();
  outcomes([room.send('b')]);
  await comeBack(world, '3', entered(4, { member: '2', resumed: true, recovered: true }));
  assert.deepEqual(texts(world.socket), []);
  world.socket.say(own(2, 'a', a.cid));
  world.socket.say(left(3, '1'));
  world.socket.say(came(4, '2'));
  assert.deepEqual(texts(world.socket), ['b']);
  assert.deepEqual([heard.at(-1).type, heard.at(-1).info.own], ['enter', true], 'that which the second connection has made');
});

test('without a replay everything unacknowledged is sent again', async () => {
  const world = new World();
  const { room } = await enter(world);
  outcomes([room.send('a')]);
  const [a] = world.socket.take();
  world.socket.end(1012);
  await comeBack(world, '1', entered(0, { epoch: 'F' }));
  assert.deepEqual(world.socket.take(), [a]);
});

test('a message that was seen is not sent again, though its acknowledgement was lost', async () => {
  const world = new World();
  const { room } = await enter(world);
  const seen = outcomes([room.send('a')]);
  const [a] = world.socket.take();
  world.socket.say(own(2, 'a', a.cid));
  world.socket.end();
  await comeBack(world, '2', entered(2, { member: '2', recovered: true }));
  assert.deepEqual([texts(world.socket), seen], [[], [2]]);
});

test('no more are in flight than the server remembers', async () => {
  const world = new World();
  const { room } = await enter(world, {}, { limits: { ...LIMITS, cids: 3 } });
  outcomes([1, 2, 3, 4, 5].map((n) => room.send(n)));
  const [first, second] = [...world.socket.sent];
  assert.deepEqual(texts(world.socket), [1, 2, 3]);
  world.socket.say({ event: 'ack', cid: second.cid, seq: 2 });
  assert.deepEqual(texts(world.socket), [4]);
  world.socket.say({ event: 'error', cid: first.cid, code: 'denied', message: 'no' });
  assert.deepEqual(texts(world.socket), [5]);

  world.socket.end();
  await comeBack(world, '2', entered(1, { resumed: true, recovered: true }), { limits: { ...LIMITS, cids: 2 } });
  assert.deepEqual(texts(world.socket), [3, 4]);
});

test('without a limit all are in flight', async () => {
  const world = new World();
  const settings = { limits: { ...LIMITS, cids: null, messageBytes: null }, rates: NO_RATES };
  const { room } = await enter(world, { maxQueue: 300 }, settings);
  outcomes(Array.from({ length: 300 }, (_, n) => room.send(n ? n : 'x'.repeat(100_000))));
  assert.equal(texts(world.socket).length, 300);
});

test('the newest is refused where too many wait', async () => {
  const world = new World();
  const { room, heard } = await enter(world, { maxQueue: 2 });
  const seen = outcomes([room.send('a')]);
  const [a] = world.socket.take();
  world.socket.end();
  seen.push(...outcomes([room.send('b')]));
  await assert.rejects(room.send('c', { event: 'note' }), { code: 'overflow' });
  assert.deepEqual(heard, [{ type: 'overflow', value: { event: 'note', message: 'c' }, info: undefined }]);
  await comeBack(world, '2', entered(1, { resumed: true, recovered: true }));
  world.socket.say({ event: 'ack', cid: a.cid, seq: 2 });
  outcomes([room.send('d')]);
  assert.deepEqual(texts(world.socket), ['a', 'b', 'd']);
});

test('by default 128 wait', async () => {
  const world = new World();
  const { room } = await enter(world, { maxQueue: undefined });
  world.socket.end();
  outcomes(Array.from({ length: 128 }, (_, n) => room.send(n)));
  await assert.rejects(room.send('one more'), { code: 'overflow' });
});

test('a message over the limit is not sent: bytes count, not letters', async () => {
  const world = new World();
  const { room } = await enter(world, {}, { limits: { ...LIMITS, messageBytes: 200 } });
  outcomes([room.send('')]);
  const left = 200 - JSON.stringify(world.socket.take()[0]).length;
  outcomes([room.send('x'.repeat(left))]);
  assert.equal(world.socket.take().length, 1);
  await assert.rejects(room.send('x'.repeat(left + 1)), { code: 'too_big' });
  await assert.rejects(room.send('茶'.repeat(left / 2)), { code: 'too_big' });
  assert.deepEqual(world.socket.take(), []);
});

test('the next server may take less', async () => {
  const world = new World();
  const { room } = await enter(world);
  const seen = outcomes([room.send('x'.repeat(300)), room.send('y')]);
  world.socket.take();
  world.socket.end(1012);
  await comeBack(world, '1', entered(0, { epoch: 'F' }), { limits: { ...LIMITS, messageBytes: 200 } });
  assert.deepEqual(texts(world.socket), ['y']);
  await settled();
  assert.deepEqual(seen, ['too_big', 'waits']);
});

test('the protocol\'s own events and wrong options can\'t be sent', async () => {
  const world = new World();
  const { room } = await enter(world);
  const reserved = ['enter', 'out', 'heartbeat', 'auth', 'noAuth', 'error', 'welcome', 'entered', 'ack', 'expiring', 'lagged', 'authenticated', 'leave', 'left', 'resume', 'resumed'];
  for (const event of reserved) {
    await assert.rejects(room.send('x', { event }), { code: 'reserved_event' });
  }
  for (const options of [null, 'note', 7, { event: 7 }, { event: null }]) await assert.rejects(room.send('x', options), { code: 'bad_options' });
  const circle = {};
  circle.self = circle;
  await assert.rejects(room.send(circle), TypeError);
  assert.deepEqual(world.socket.take(), []);
});

test('an error with a cid is that message\'s, without one it is everybody\'s', async () => {
  const world = new World();
  const { room, heard } = await enter(world);
  const seen = outcomes([room.send('a'), room.send('b'), room.send('c')]);
  const [, b, c] = world.socket.take();
  world.socket.say({ event: 'error', cid: b.cid, code: 'denied', message: 'not here' });
  world.socket.say({ event: 'error', cid: c.cid, code: 'internal', message: 'it could not be sent' });
  world.socket.say({ event: 'error', code: 'internal', message: 'oh' });
  await settled();
  assert.deepEqual(seen, ['waits', 'denied', 'internal']);
  assert.deepEqual(heard.map(({ type, value }) => [type, value.code, value.message]), [['error', 'internal', 'oh']]);
  assert.equal(room.state, 'online');
});

test('what the server could not read is the oldest in flight', async () => {
  const world = new World();
  const { room, heard } = await enter(world);
  const seen = outcomes([room.send('nested too deeply'), room.send('b')]);
  world.socket.say({ event: 'error', code: 'too_deep', message: 'too deep' });
  await settled();
  assert.deepEqual(seen, ['too_deep', 'waits']);
  world.socket.end();
  await comeBack(world, '2', entered(1, { resumed: true, recovered: true }));
  assert.deepEqual(texts(world.socket), ['b'], 'it is not sent again and again');
  assert.deepEqual(heard, []);
});

test('what is not in flight is not what the server could not read', async () => {
  const world = new World();
  const { room, heard } = await enter(world);
  const seen = outcomes([room.send('a')]);
  world.socket.end();
  await comeBack(world, '2', entered(2, { recovered: true }));
  world.socket.say({ event: 'error', code: 'bad_shape', message: 'of the enter' });
  await settled();
  assert.deepEqual([seen, heard.map(({ type }) => type)], [['waits'], ['error']]);
});

test('leaving leaves nothing behind', async () => {
  const world = new World();
  const { room, states } = await enter(world);
  const seen = outcomes([room.send('a')]);
  room.leave();
  room.leave();
  await settled();
  assert.deepEqual(seen, ['closed']);
  assert.deepEqual([room.state, room.reason.code, room.reason.closeCode, world.socket.closedWith], ['closed', 'left', 1000, 1000]);
  assert.deepEqual(states, ['online', 'closed: left']);
  await assert.rejects(room.send('b'), { code: 'closed' });
  for (const type of ['online', 'offline', 'pageshow', 'pagehide']) world.tell(type);
  await world.pass(60_000);
  assert.deepEqual([world.sockets.length, world.timers], [1, 0]);
});

test('it can leave while the connection is lost', async () => {
  const world = new World();
  const { room } = await enter(world);
  world.socket.end();
  room.leave();
  await world.pass(60_000);
  assert.deepEqual([room.state, world.sockets.length], ['closed', 1]);
});
