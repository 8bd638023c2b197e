// Requests for earlier messages.

import assert from 'node:assert/strict';
import test from 'node:test';
import { comeBack, enter, entered, own, said, settled, World } from './world.js';

const error = (code, cid, more = {}) => ({ event: 'error', code, message: 'no', cid, ...more });
const page = (cid, messages, more = false) => ({ event: 'history', roomId: 'tea', cid, messages, more });
const texts = (frames) => frames.map(({ message }) => message);

/** How a promise has ended: its value, or the code of its error. */
async function outcome(promise) {
  let ended;
  promise.then((value) => { ended = value; }, ({ code }) => { ended = code; });
  await settled();
  return ended;
}

test('a request that the server refuses fails at once, and delays no message', async () => {
  for (const [code, more] of [['unavailable', { retryAfter: 2_000 }], ['denied', {}], ['internal', { retryAfter: 1_000 }], ['not_entered', {}], ['rate_limited', {}]]) {
    const world = new World();
    const { room, states } = await enter(world);
    const asking = room.history({ limit: 5 });
    const [asked] = world.socket.take();
    const sending = room.send('before');
    world.socket.say(error(code, asked.cid, more));
    assert.equal(await outcome(asking), code);
    const second = room.send('after');
    const sent = world.socket.take();
    assert.deepEqual(texts(sent), ['before', 'after'], `nothing waits after ${code}`);
    sent.forEach(({ cid, message }, n) => world.socket.say(own(2 + n, message, cid)));
    assert.deepEqual([await sending, await second, states.at(-1)], [{ seq: 2 }, { seq: 3 }, 'online']);
  }
});

test('a request in flight is sent again after a lost connection', async () => {
  const world = new World();
  const { room } = await enter(world);
  const asking = room.history({ before: 700 });
  const [asked] = world.socket.take();
  assert.deepEqual(asked, { event: 'history', roomId: 'tea', cid: asked.cid, before: 700 });
  world.socket.end();
  assert.equal(await outcome(asking), undefined);
  await comeBack(world, '2', entered(1, { resumed: true, recovered: true, replayed: 0 }));
  assert.deepEqual(world.socket.take(), [asked]);
  world.socket.say(page(asked.cid, [said(1, 'old', { id: 600 })], true));
  const { messages, more } = await asking;
  assert.deepEqual([texts(messages), more], [['old'], true]);
});

test('items that are not objects are left out of a page', async () => {
  const world = new World();
  const { room } = await enter(world);
  const asking = room.history();
  world.socket.say(page(world.socket.take()[0].cid, [null, 'x', [], 7, said(1, 'old')]));
  assert.deepEqual(texts((await asking).messages), ['old']);
  const second = room.history();
  world.socket.say(page(world.socket.take()[0].cid, 'none'));
  assert.deepEqual(await second, { messages: [], more: false });
});

test('a request that is not answered fails when the room is left', async () => {
  const world = new World();
  const { room } = await enter(world);
  const asking = room.history();
  room.leave();
  assert.equal(await outcome(asking), 'closed');
  assert.equal(await outcome(room.history()), 'closed');
});

test('too many requests are refused like too many messages', async () => {
  const world = new World();
  const { room, heard } = await enter(world, { maxQueue: 2 });
  world.socket.end();
  const waiting = [room.history(), room.send('a')];
  assert.equal(await outcome(room.history()), 'overflow');
  assert.deepEqual([heard, await outcome(Promise.race(waiting))], [[], undefined]);
});
