// Messages from the server's store, in the answer to an enter.

import assert from 'node:assert/strict';
import test from 'node:test';
import { Progress } from '../../src/browser/progress.js';
import { begin, comeBack, entered, said, settled, welcome, World } from './world.js';

/** A message from the store. */
const stored = (message, id, more = {}) => ({ event: 'message', message, roomId: 'tea', name: 'bob', member: 'b', id, ...more });
const again = (seq, more) => entered(seq, { member: '9', epoch: 'F', replayed: 0, ...more });
const told = ({ type, value, info }) => [type, value.message, info && ['own', 'replayed', 'history'].filter((key) => info[key]).join()];

/** In a room of a server with a store. The `entered` has the id 100. */
async function inRoom(world) {
  const begun = begin(world);
  await settled();
  world.socket.accept();
  world.socket.say(welcome('1'));
  world.socket.say(entered(0, { id: 100 }));
  const room = await begun.promise;
  return { ...begun, room };
}

/** The `since` with which the client enters again. */
async function sinceAfter(world) {
  world.socket.end();
  const { enter: { since } } = await comeBack(world, '7', entered(0, { epoch: 'G', id: 1 }));
  return since;
}

test('messages of the first enter are the history', async () => {
  const world = new World();
  const { promise, heard } = begin(world, { history: 3 });
  await settled();
  world.socket.accept();
  world.socket.say(welcome('1'));
  const messages = [null, 'x', [stored('y', 1)], stored('one', 10), stored('two', 11)];
  world.socket.say(entered(5, { id: 100, replayed: 0, history: 1, messages, more: true }));
  world.socket.say(said(4, 'three', { id: 12 }));
  await promise;
  assert.deepEqual(heard.map(told), [['message', 'one', 'history'], ['message', 'two', 'history'], ['message', 'three', 'history']]);
});

test('messages of a later enter are replayed, even if some are missing', async () => {
  for (const [answer, gap] of [[{ recovered: 'store', more: false }, []], [{ recovered: false, more: true }, [['gap', undefined, undefined]]]]) {
    const world = new World();
    const { heard } = await inRoom(world);
    heard.length = 0;
    world.socket.end();
    const messages = [stored('mine', 110, { member: '1' }), stored('two', 120)];
    await comeBack(world, '2', again(0, { ...answer, id: 200, messages }));
    assert.deepEqual(heard.map(told), [...gap, ['message', 'mine', 'own,replayed'], ['message', 'two', 'replayed']]);
    assert.equal((await sinceAfter(world)).id, 200);
  }
});

test('a message that comes from the store and in the replay is emitted once', async () => {
  const world = new World();
  const { heard } = await inRoom(world);
  heard.length = 0;
  world.socket.end();
  await comeBack(world, '2', again(2, { recovered: 'store', replayed: 2, id: 200, messages: [stored('one', 110), stored('two', 120)] }));
  world.socket.say(said(1, 'two', { id: 120 }));
  world.socket.say(said(2, 'three', { id: 130 }));
  assert.deepEqual(heard.map(told), [['message', 'one', 'replayed'], ['message', 'two', 'replayed'], ['message', 'three', 'replayed']]);
});

test('the id of the enter counts once all frames before it have come', async () => {
  for (const [frames, since] of [[[], 100], [[said(1, 'one', { id: 110 })], 110], [[said(1, 'one', { id: 110 }), said(2, 'two', { id: 120 })], 200]]) {
    const world = new World();
    await inRoom(world);
    world.socket.end();
    await comeBack(world, '2', entered(2, { member: '9', recovered: true, replayed: 2, id: 200 }));
    for (const frame of frames) world.socket.say(frame);
    assert.deepEqual(await sinceAfter(world), { epoch: 'E', seq: frames.length, id: since });
  }
});

test('the latest ids are known, and the last one never falls', () => {
  const progress = new Progress();
  progress.enter({ member: '1', name: 'ann', epoch: 'E', seq: 0 });
  assert.ok(progress.note(7) && progress.note(7), 'there is no store');
  assert.deepEqual(progress.since, { epoch: 'E', seq: 0 });
  progress.enter({ member: '1', name: 'ann', epoch: 'E', seq: 0, id: 10, replayed: 0 });
  for (const id of [12, 11]) assert.deepEqual([progress.note(id), progress.note(id)], [true, false]);
  assert.ok(progress.note(undefined) && progress.note('12'), 'what has no id is not known');
  assert.equal(progress.since.id, 12);
  for (let id = 100; id < 1_100; id += 1) assert.ok(progress.note(id));
  assert.ok(progress.note(11), 'it is forgotten');
  assert.equal(progress.since.id, 1_099);
  progress.enter({ member: '1', name: 'ann', epoch: 'E', seq: 0, replayed: 0 });
  assert.equal(progress.since.id, undefined);
});

test('the latest member ids are known', () => {
  const progress = new Progress();
  for (let n = 0; n < 20; n += 1) progress.enter({ member: String(n), name: 'ann', epoch: 'E', seq: 0, replayed: 0 });
  progress.enter({ member: '10', name: 'ann', epoch: 'E', seq: 0, replayed: 0 });
  const known = (is) => [...Array(20).keys()].filter((n) => is(String(n)));
  const latest = known((member) => Number(member) > 3);
  assert.deepEqual(known((member) => progress.isOwn(member, true)), latest);
  assert.deepEqual(known((member) => progress.wasOwn(member)), latest);
  assert.deepEqual(known((member) => progress.isOwn(member, false)), [10]);
  progress.enter({ member: '30', name: 'ann', epoch: 'F', seq: 0, replayed: 0 });
  assert.ok(!progress.isOwn('10', true) && progress.wasOwn('10'));
});
