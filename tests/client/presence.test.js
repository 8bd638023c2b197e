// Who is in a room, as the application sees it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { begin, came, comeBack, entered, left, ping, said, settled, welcome, World } from './world.js';

const ann = { member: '1', name: 'ann' };
const bob = { member: 'b', name: 'bob', user: 'u-b', info: { role: 'host' }, state: 'away' };
const cid = { member: 'c', name: 'cid' };
const dan = { member: 'd', name: 'dan', user: 'u-b' };

const full = (members, more = {}) => ({ mode: 'full', num: members.length + 1, users: 0, members, ...more });
const page = (members, more = {}) => ({ event: 'members', roomId: 'tea', seq: 1, ...full(members), num: members.length, ...more });
const presence = (mode, num, more = {}) => ({ event: 'presence', roomId: 'tea', mode, num, users: 0, ...more });
const ask = (after) => ({ event: 'members', roomId: 'tea', ...(after && { after }) });

/** Enters a room that has these members already. `told` collects what the handlers of `presence` get. */
async function open(answer = full([bob]), options = {}) {
  const world = new World();
  const told = [];
  const { promise, heard } = begin(world, options);
  await settled();
  world.socket.accept();
  world.socket.say(welcome('1'));
  world.socket.take();
  world.socket.say(entered(0, answer));
  const room = await promise;
  room.on('presence', (it) => told.push(it));
  const say = async (...frames) => {
    for (const frame of frames) world.socket.say(frame);
    await settled();
  };
  return { world, room, told, say, heard };
}

const ids = ({ presence: { members } }) => members?.map(({ id }) => id) ?? null;

test('the roster is that of the answer, and enters and outs change it', async () => {
  const { world, room, told, say } = await open();
  const known = { id: 'b', name: 'bob', user: 'u-b', info: { role: 'host' }, state: 'away', self: false };
  assert.deepEqual(room.presence, { mode: 'full', num: 2, users: 1, members: [known], complete: true, self: null });
  await say(came(1, '1', { num: 2, info: 7 }));
  const self = { id: '1', name: 'ann', info: 7, self: true };
  assert.deepEqual(room.presence, { mode: 'full', num: 2, users: 1, members: [known, self], complete: true, self });
  await say({ event: 'enter', message: 'cid', ...cid, num: 3, roomId: 'tea', user: 'u-c', seq: 2 });
  assert.deepEqual([ids(room), room.presence.users, room.online], [['b', '1', 'c'], 2, 3]);
  await say(left(3, 'b', { num: 2 }), said(4, 'hi', { member: 'c' }));
  assert.deepEqual([ids(room), room.presence.users, room.presence.num], [['1', 'c'], 1, 2]);
  assert.deepEqual(told.map(({ num }) => num), [2, 3, 2]);
  assert.deepEqual(world.socket.take(), [], 'nothing was asked');
});

test('handlers of an enter and an out see the room as it is then', async () => {
  const { room, say } = await open();
  const seen = [];
  for (const event of ['enter', 'out']) room.on(event, () => seen.push([event, room.online, ids(room)]));
  await say(came(1, '1', { num: 2 }), left(2, 'b', { num: 1 }));
  assert.deepEqual(seen, [['enter', 2, ['b', '1']], ['out', 1, ['1']]]);
});

test('what changes in one task is told once, and what does not change is not told', async () => {
  const { room, told, say } = await open();
  await say(came(1, '1', { num: 2 }), left(2, 'b', { num: 1 }), said(3, 'hi', { num: 1 }));
  assert.deepEqual([told, told.length], [[room.presence], 1]);
  assert.equal(told[0], room.presence, 'the same object until something changes');
  await say(said(4, 'hi', { num: 1 }), ping());
  assert.equal(told.length, 1);
  assert.throws(() => { room.presence.num = 7; }, TypeError);
  room.leave();
  await settled();
  assert.equal(told.length, 1, 'not after the end');
});

test('a member that enters under another name is one member', async () => {
  const { room, say } = await open(full([bob, cid]));
  await say({ event: 'enter', message: 'bo', ...bob, name: 'bo', num: 3, roomId: 'tea', seq: 1 });
  assert.deepEqual([ids(room), room.presence.members.map(({ name }) => name)], [['c', 'b'], ['cid', 'bo']]);
});

test('pages are asked for one after the other, and may overlap with enters and outs', async () => {
  const { world, room, told, say } = await open(full([bob], { next: 'x', num: 4 }));
  assert.deepEqual(world.socket.take(), [ask('x')]);
  assert.deepEqual([ids(room), room.presence.complete, room.presence.users], [['b'], false, 0]);
  await say(came(1, '1', { num: 4 }), left(2, 'b', { num: 3 }), page([cid], { next: 'y', num: 3, seq: 2 }));
  assert.deepEqual(world.socket.take(), [ask('y')]);
  assert.deepEqual([ids(room), room.presence.complete], [['1', 'c'], false]);
  await say(page([dan, ann], { num: 3, seq: 2 }));
  assert.deepEqual([ids(room), room.presence.complete, room.presence.users, room.position.seq], [['c', 'd', '1'], true, 1, 2]);
  assert.deepEqual([world.socket.take(), told.at(-1)], [[], room.presence]);
  await say(left(3, 'c', { num: 2 }));
  assert.deepEqual(ids(room), ['d', '1'], 'the page was no frame of the room');
});

test('as many members are asked for as the application wants', async () => {
  for (const [roster, pages] of [[0, 0], [1, 0], [2, 1], [1_000, 2]]) {
    const { world, room, say } = await open(full([bob], { next: 'x', num: 5 }), { roster });
    await say(came(1, '1', { num: 5 }));
    // The own member is one of those that are known.
    for (const [members, next] of [[[cid], 'y'], [[dan, ann]]]) if (world.socket.take().length > 0) await say(page(members, { next, num: 5 }));
    assert.deepEqual(world.socket.take(), []);
    assert.equal(room.presence.members.length, [2, 3, 4][pages], roster);
    assert.equal(room.presence.complete, pages === 2);
  }
});

test('after frames were dropped, the roster is asked for from the beginning', async () => {
  const { world, room, say } = await open(full([bob]));
  await say(came(1, '1', { num: 2 }), { event: 'lagged', roomId: 'tea', missed: 2 });
  assert.deepEqual([world.socket.take(), ids(room), room.presence.complete], [[ask()], ['b', '1'], false]);
  await say({ event: 'lagged', roomId: 'tea', missed: 1 });
  assert.deepEqual(world.socket.take(), [], 'the answer takes all into account that was missed before it');
  await say(page([ann], { next: 'x', num: 3 }), { event: 'lagged', roomId: 'tea', missed: 1 });
  assert.deepEqual(world.socket.take(), [ask('x')]);
  await say(page([dan], { num: 2 }));
  assert.deepEqual([world.socket.take(), ids(room), room.presence.complete], [[ask()], ['1'], false], 'the pages do not fit together');
  await say(page([ann, cid]));
  assert.deepEqual([world.socket.take(), ids(room), room.presence.complete], [[], ['1', 'c'], true]);
});

test('if the application wants no roster, none is known after frames were dropped', async () => {
  const { world, room, say } = await open(full([bob]), { roster: 0 });
  await say(came(1, '1', { num: 2 }), { event: 'lagged', roomId: 'tea', missed: 2 });
  assert.deepEqual([world.socket.take(), room.presence.members, room.presence.complete], [[], null, false]);
  await say(came(4, 'e', { num: 3 }), presence('count', 2), presence('full', 3));
  await world.pass(2_000);
  assert.deepEqual([world.socket.take(), room.presence.members, room.presence.num], [[], null, 3]);
});

test('a frame that cannot be read may be an enter', async () => {
  const { world, room, say } = await open(full([bob]));
  await say(came(1, '1', { num: 2 }));
  world.socket.sayText('?');
  await say(said(3, 'hi', { num: 3 }));
  assert.deepEqual([world.socket.take(), room.presence.num], [[ask()], 3]);
});

test('states and what the host changes are shown, in any combination', async () => {
  const { room, told, say } = await open(full([bob, cid]));
  const change = (member, more) => ({ event: 'state', member, name: 'x', num: 3, roomId: 'tea', ...more });
  const of = (id) => room.presence.members.find((member) => member.id === id);
  const before = of('b');
  await say(change('b', { state: { at: 3 } }));
  assert.deepEqual([of('b'), before.state], [{ ...before, state: { at: 3 } }, 'away']);
  await say(change('b', { info: null, user: 'u-9' }), change('c', { state: 0 }), change('nobody', { state: 1 }));
  assert.deepEqual([of('b'), of('c')], [{ id: 'b', name: 'bob', user: 'u-9', state: { at: 3 }, self: false }, { id: 'c', name: 'cid', state: 0, self: false }]);
  await say(change('b', { state: null }));
  assert.deepEqual([of('b'), told.length, ids(room)], [{ id: 'b', name: 'bob', user: 'u-9', self: false }, 3, ['b', 'c']]);
});

test('a room that counts has no roster, and nothing waits for the own enter', async () => {
  const { world, room, told, say } = await open({ mode: 'count', num: 500, users: 3 });
  assert.deepEqual(room.presence, { mode: 'count', num: 500, users: 3, members: null, complete: false, self: null });
  assert.equal(room.state, 'online');
  const sending = room.send('hi');
  const [{ cid: id }] = world.socket.take();
  await say({ event: 'ack', cid: id, seq: 1 }, said(1, 'hi', { num: 501 }));
  assert.deepEqual([await sending, room.presence.num], [{ seq: 1 }, 501]);
  await say(presence('count', 480, { users: 2 }));
  assert.deepEqual([room.online, room.presence.users, told.map(({ num }) => num)], [480, 2, [501, 480]]);
  await say({ event: 'lagged', roomId: 'tea', missed: 2 });
  assert.deepEqual(world.socket.take(), [], 'there is nothing to ask for');
});

test('when the mode changes, the roster is forgotten or asked for at some time within a second', async () => {
  const { world, room, say } = await open(full([bob], { next: 'x' }));
  world.random = 0.5;
  world.socket.take();
  await say(came(1, '1', { num: 2 }), presence('quiet', 500));
  assert.deepEqual([room.presence.mode, room.presence.members, room.presence.complete], ['quiet', null, false]);
  await say(page([], { mode: 'quiet', members: undefined, num: 500 }), presence('full', 2, { users: 2 }));
  assert.deepEqual([room.presence.members, room.presence.users], [null, 2]);
  await say(came(2, 'e', { num: 3 }));
  await world.pass(499);
  assert.deepEqual([world.socket.take(), room.presence.members], [[], null]);
  await world.pass(1);
  assert.deepEqual(world.socket.take(), [ask()]);
  await say(page([bob, ann, cid]));
  assert.deepEqual([ids(room), room.presence.complete], [['b', '1', 'c'], true]);
});

test('an answer from before a change of the mode is not shown', async () => {
  const { world, room, say } = await open(full([bob], { next: 'x' }));
  world.socket.take();
  await say(presence('count', 5), presence('full', 4), page([cid], { num: 4 }));
  assert.deepEqual([room.presence.members, room.presence.complete], [null, false]);
  await world.pass(1_000);
  assert.deepEqual(world.socket.take(), [ask()], 'once');
});

test('a client that has read too slowly asks for the roster at once', async () => {
  const { world, room, say } = await open(full([bob]));
  await say(came(1, '1', { num: 2 }), presence('full', 2));
  assert.deepEqual([world.socket.take(), room.presence.complete, ids(room)], [[ask()], false, ['b', '1']]);
});

test('frames without these keys are from an older server', async () => {
  const { world, room, told, say } = await open({ num: 2 });
  assert.deepEqual(room.presence, { mode: null, num: 2, users: 0, members: null, complete: false, self: null });
  await say(came(1, '1', { num: 2 }), left(2, 'b'), { event: 'presence', roomId: 'tea' }, { event: 'members', roomId: 'tea' });
  await say({ event: 'state', roomId: 'tea' }, { event: 'presence' }, { event: 'members' }, { event: 'state' }, { event: 'direct' });
  await say({ event: 'lagged', roomId: 'tea', missed: 1 });
  assert.deepEqual([room.presence.num, room.presence.members, told.length > 0, world.socket.take()], [0, null, true, []]);
});

test('the host may still use these names for its frames to a room', async () => {
  const { room, heard, say } = await open();
  room.on('*', ({ event }) => heard.push(event));
  await say(came(1, '1', { num: 2 }), { event: 'state', roomId: 'tea', num: 2, seq: 2 }, { event: 'presence', roomId: 'tea', num: 2, seq: 3 });
  assert.deepEqual([room.position.seq, room.presence.mode, heard.slice(-2)], [3, 'full', ['state', 'presence']]);
});

test('read-only and hidden members know that they are', async () => {
  const { room } = await open(full([bob]));
  assert.deepEqual([room.readOnly, room.hidden], [false, false]);
  const other = await open(full([bob], { readOnly: true, hidden: true }));
  assert.deepEqual([other.room.readOnly, other.room.hidden, other.room.presence.self], [true, true, null]);
  const sending = other.room.send('hi');
  const [{ cid: id }] = other.world.socket.take();
  other.world.socket.say({ event: 'error', code: 'read_only', message: 'no', cid: id, roomId: 'tea' });
  await assert.rejects(sending, { code: 'read_only' });
  assert.equal(other.room.state, 'online');
});

test('a replay does not change the roster, which has it already', async () => {
  const { world, room, say } = await open(full([bob]));
  await say(came(1, '1', { num: 2 }));
  world.socket.end();
  assert.deepEqual([ids(room), room.presence.complete, room.online], [['b', '1'], false, 2], 'it may have changed');
  await comeBack(world, '2', entered(4, { ...full([ann, dan, cid], { num: 3 }), resumed: true, recovered: true, replayed: 3 }));
  assert.deepEqual([ids(room), room.presence.complete], [['1', 'd', 'c'], true]);
  await say(left(2, 'b', { num: 1 }), came(3, 'd', { num: 2 }), came(4, 'c', { num: 3 }), left(5, 'd', { num: 2 }));
  assert.deepEqual([ids(room), room.presence.num], [['1', 'c'], 2]);
  assert.deepEqual(world.socket.take(), []);
});

test('pages of a connection that is lost are forgotten', async () => {
  const { world, room, say } = await open(full([bob], { next: 'x', num: 3 }));
  assert.deepEqual(world.socket.take(), [ask('x')]);
  world.socket.end();
  await comeBack(world, '2', entered(0, { ...full([cid], { next: 'y', num: 3 }), member: '2' }));
  assert.deepEqual([world.socket.take(), ids(room)], [[ask('y')], ['c']]);
  await say(came(1, '2', { num: 3 }), page([dan], { num: 3 }));
  assert.deepEqual([ids(room), room.presence.complete], [['c', '2', 'd'], true]);
});

test('a page that is refused is asked for again, unless the server does not know the request', async () => {
  const first = full([bob], { next: 'x', num: 3 });
  const refusal = (code, more = {}) => ({ event: 'error', code, message: 'no', roomId: 'tea', ...more });
  for (const [error, wait, asked] of [
    [refusal('internal'), 1_000, ask()],
    [refusal('internal', { retryAfter: 20 }), 20, ask()],
    [refusal('rate_limited', { retryAfter: 10 }), 10, ask('x')],
    [refusal('bad_shape'), null],
    [{ event: 'error', code: 'bad_shape', message: 'no' }, null],
  ]) {
    const { world, room, heard, say } = await open(first);
    assert.deepEqual(world.socket.take(), [ask('x')]);
    await say(came(1, '1', { num: 3 }), error);
    if (wait !== null) await world.pass(wait - 1);
    assert.deepEqual([world.socket.take(), ids(room), room.presence.complete], [[], ['b', '1'], false]);
    await world.pass(1);
    assert.deepEqual([world.socket.take(), room.state], [wait === null ? [] : [asked], 'online']);
    assert.deepEqual(heard.filter(({ type }) => type === 'error' && wait !== null), []);
  }
});

test('a client that was removed meanwhile asks for nothing', async () => {
  const { world, room, say } = await open(full([bob], { next: 'x', num: 3 }));
  await say(came(1, '1', { num: 3 }), { event: 'left', roomId: 'tea', code: 'denied', message: 'banned' });
  await say({ event: 'error', code: 'not_entered', message: 'no', roomId: 'tea' }, page([cid]), presence('count', 9));
  assert.deepEqual([room.state, room.presence.mode, room.presence.complete, ids(room)], ['outside', 'full', false, ['b', '1']]);
  world.socket.take();
  room.enter();
  await say(entered(2, { ...full([bob]), member: '1', recovered: true, replayed: 1 }), left(2, '1'), came(3, '1', { num: 2 }));
  assert.deepEqual([ids(room), room.presence.complete], [['b', '1'], true]);
  assert.deepEqual(world.socket.take().map(({ event }) => event), ['enter']);
});

test('the application is told that it may write now', async () => {
  const { room, told, say } = await open(full([bob], { readOnly: true }));
  const changes = [];
  room.on('readOnly', (readOnly) => changes.push([readOnly, room.readOnly]));
  assert.equal(room.readOnly, true);
  await say({ event: 'state', readOnly: false, member: '1', roomId: 'tea' });
  assert.deepEqual([changes, room.state, told], [[[false, false]], 'online', []]);
});
