// The state that the application sets for its own member.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from '../../src/browser/chat-rooms.js';
import { begin, came, comeBack, entered, settled, welcome, World } from './world.js';

const full = (members, more = {}) => ({ mode: 'full', num: members.length + 1, users: 0, members, ...more });
const set = (state) => ({ event: 'state', state, roomId: 'tea' });
const ann = (more = {}) => ({ member: '1', name: 'ann', ...more });

/** Enters a full room as its only member. `sent` is the enter. */
async function open(options = {}, settings = {}, answer = full([])) {
  const world = new World();
  const { promise, heard, states } = begin(world, options);
  await settled();
  world.socket.accept();
  world.socket.say(welcome('1', settings));
  const [sent] = world.socket.take();
  world.socket.say(entered(0, answer));
  const room = await promise;
  if (answer.mode === 'full' && !answer.hidden) world.socket.say(came(1, '1', sent.state !== undefined && { state: sent.state }));
  await settled();
  return { world, room, heard, states, sent };
}

/** Comes back to a room whose roster has this client, or as a new member. */
const resumed = (world, members, more = {}) => comeBack(world, '2', entered(1, { ...full(members), num: 1, resumed: true, recovered: true, ...more }));
const anew = (world, member) => comeBack(world, '2', entered(1, { ...full([]), num: 1, member }));

test('a room is entered with a state', async () => {
  const { world, room, sent } = await open({ state: { at: 1 } });
  assert.deepEqual([sent.state, world.socket.take()], [{ at: 1 }, []]);
  assert.deepEqual(room.presence.self, { id: '1', name: 'ann', state: { at: 1 }, self: true });
  for (const state of [undefined, null]) assert.equal('state' in (await open({ state })).sent, false);
});

test('each room of a connection has a state of its own', async () => {
  const world = new World();
  const opening = connect('/chat', { global: world });
  await settled();
  world.socket.accept();
  world.socket.say(welcome('1'));
  const chat = await opening;
  for (const id of ['tea', 'coffee']) chat.join(id, { name: 'ann', state: id });
  assert.deepEqual(world.socket.take().map(({ roomId, state }) => [roomId, state]), [['tea', 'tea'], ['coffee', 'coffee']]);
});

test('a state is sent at once, and shown at once', async () => {
  const { world, room } = await open();
  const told = [];
  room.on('presence', ({ self }) => told.push(self.state));
  room.setState({ at: 1 });
  assert.deepEqual([world.socket.take(), room.presence.self.state], [[set({ at: 1 })], { at: 1 }]);
  await settled();
  assert.deepEqual(told, [{ at: 1 }]);
  await world.pass(100);
  room.setState(null);
  assert.deepEqual([world.socket.take(), 'state' in room.presence.self], [[set(null)], false]);
});

test('the newest state is sent every 100 ms, and what the server has is not sent again', async () => {
  const { world, room } = await open();
  const sent = [];
  for (let n = 1; n <= 250; n += 1) {
    room.setState(n);
    await world.pass(1);
    sent.push(...world.socket.take().map(({ state }) => state));
  }
  assert.deepEqual(sent, [1, 100, 200]);
  await world.pass(100);
  assert.deepEqual(world.socket.take(), [set(250)]);
  room.setState(250);
  await world.pass(1_000);
  assert.deepEqual(world.socket.take(), []);
  room.setState(1);
  room.setState(2);
  room.setState(1);
  await world.pass(1_000);
  assert.deepEqual(world.socket.take(), [set(1)], 'the state between them is of no use');
});

test('rooms do not wait for each other', async () => {
  const world = new World();
  const opening = connect('/chat', { global: world });
  await settled();
  world.socket.accept();
  world.socket.say(welcome('1'));
  const chat = await opening;
  const joining = ['tea', 'coffee'].map((id) => chat.join(id, { name: 'ann' }));
  for (const roomId of ['tea', 'coffee']) world.socket.say(entered(0, { ...full([]), roomId }));
  const rooms = await Promise.all(joining);
  world.socket.take();
  for (const room of rooms) room.setState('here');
  assert.deepEqual(world.socket.take(), [set('here'), { ...set('here'), roomId: 'coffee' }]);
});

test('a state waits for the rate of the server', async () => {
  const { world, room } = await open({}, { rates: { messages: 2, bytes: null, burst: 1 }, heartbeat: { interval: 1e9, timeout: 1e9 } });
  await world.pass(1_000);
  for (let n = 1; n <= 20; n += 1) {
    room.setState(n);
    await world.pass(100);
  }
  await world.pass(1_000);
  const sent = world.socket.take().map(({ state }) => state);
  assert.ok(sent.length > 3 && sent.length <= 8);
  assert.equal(sent.at(-1), 20);
});

test('after an interruption, the session still has the state', async () => {
  const { world, room } = await open();
  room.setState('here');
  world.socket.end();
  await resumed(world, [ann({ state: 'here' })]);
  assert.deepEqual([world.socket.take(), room.presence.self.state], [[], 'here']);
});

test('a state that has not arrived, or was set meanwhile, is sent after the interruption', async () => {
  const { world, room } = await open();
  room.setState('lost');
  world.socket.end();
  await resumed(world, [ann()]);
  assert.deepEqual([world.socket.take(), room.presence.self.state], [[set('lost')], 'lost']);
  world.socket.end();
  room.setState('later');
  assert.equal(room.presence.self.state, 'later');
  await world.pass(50);
  await comeBack(world, '3', entered(1, { ...full([ann({ state: 'lost' })]), num: 1, resumed: true, recovered: true }));
  await world.pass(100);
  assert.deepEqual(world.socket.take(), [set('later')]);
});

test('if the first page does not have the own member, the state is sent again', async () => {
  for (const answer of [{ members: [{ member: 'b', name: 'bob' }], next: 'x' }, { mode: 'count', members: undefined }]) {
    const { world, room } = await open();
    room.setState('here');
    world.socket.end();
    await resumed(world, [], answer);
    await world.pass(100);
    assert.deepEqual(world.socket.take().filter(({ event }) => event === 'state'), [set('here')]);
  }
});

test('a new member enters with the state that was set last', async () => {
  const { world, room } = await open({ state: 'first' });
  room.setState('here');
  world.socket.end();
  assert.equal((await anew(world, '2')).enter.state, 'here');
  world.socket.say(came(2, '2', { state: 'here' }));
  assert.deepEqual([world.socket.take(), room.presence.self.state], [[], 'here']);
  room.setState(null);
  world.socket.take();
  world.socket.end();
  await comeBack(world, '3', entered(0, { ...full([]), epoch: 'F', member: '3' }));
  assert.deepEqual([world.socket.take(), room.presence.self], [[], null]);
});

test('a state that is set while the enter is under way is sent afterwards', async () => {
  const world = new World();
  const { promise } = begin(world, { state: 'first' });
  await settled();
  world.socket.accept();
  world.socket.say(welcome('1'));
  world.socket.say(entered(0, full([])));
  const room = await promise;
  world.socket.say(came(1, '1', { state: 'first' }));
  world.socket.end();
  await world.pass(1_000);
  world.socket.accept();
  world.socket.say(welcome('2'));
  assert.equal(world.socket.take().at(-1).state, 'first');
  room.setState('second');
  world.socket.say({ event: 'resumed', rooms: [] });
  world.socket.say(entered(1, { ...full([]), num: 1, member: '2' }));
  assert.deepEqual(world.socket.take(), [set('second')]);
  world.socket.say(came(2, '2', { state: 'first' }));
  assert.equal(room.presence.self.state, 'second', 'what the application has set is shown');
});

test('nothing is sent or thrown after the end', async () => {
  const { world, room } = await open();
  room.setState(1);
  room.setState(2);
  world.socket.take();
  room.leave();
  room.setState(3);
  await world.pass(1_000);
  assert.deepEqual([world.socket.take(), world.timers], [[], 0]);
});

test('if the server refuses a state, the one before is shown, and the application is told', async () => {
  const { world, room, heard, states } = await open({ state: 'before' });
  room.setState('refused');
  world.socket.take();
  world.socket.say({ event: 'error', code: 'denied', message: 'not this', roomId: 'tea' });
  assert.deepEqual(heard.filter(({ type }) => type === 'error').map(({ value: { code } }) => code), ['denied']);
  assert.deepEqual(world.socket.take(), [{ event: 'members', roomId: 'tea' }]);
  world.socket.say({ event: 'members', roomId: 'tea', seq: 1, ...full([ann({ state: 'before' })], { num: 1 }) });
  assert.deepEqual([room.presence.self.state, states], ['before', ['online']]);
  world.socket.end();
  assert.equal((await anew(world, '2')).enter.state, 'before');
});

test('the server may refuse the state of an enter', async () => {
  const { world, room, heard } = await open({ state: 'refused' });
  world.socket.take();
  world.socket.say({ event: 'error', code: 'denied', message: 'not this', roomId: 'tea' });
  assert.deepEqual(heard.filter(({ type }) => type === 'error').map(({ value: { code } }) => code), ['denied']);
  assert.deepEqual(world.socket.take(), [{ event: 'members', roomId: 'tea' }]);
  world.socket.say({ event: 'members', roomId: 'tea', seq: 1, ...full([ann({})], { num: 1 }) });
  assert.equal(room.presence.self.state, undefined);
  world.socket.end();
  assert.equal((await anew(world, '2')).enter.state, undefined);
});

test('a refused state that was replaced meanwhile changes nothing', async () => {
  const { world, room } = await open();
  room.setState('refused');
  room.setState('newer');
  world.socket.take();
  world.socket.say({ event: 'error', code: 'denied', message: 'not this', roomId: 'tea' });
  await world.pass(100);
  assert.deepEqual([world.socket.take(), room.presence.self.state], [[set('newer')], 'newer']);
});

test('a read-only member has a state', async () => {
  const { world, room } = await open({ roster: 0 }, { transient: ['typing'] }, full([], { readOnly: true }));
  room.setState('here');
  room.sendTransient('typing', true);
  assert.deepEqual(world.socket.take().map(({ event }) => event), ['state', 'typing']);
  world.socket.say({ event: 'error', code: 'read_only', message: 'no', roomId: 'tea' });
  assert.deepEqual([world.socket.take(), room.presence.self.state], [[], 'here']);
  world.socket.end();
  assert.equal((await anew(world, '2')).enter.state, 'here');
});

test('a state that the server would not accept is refused with a clear error', async () => {
  const { world, room } = await open();
  assert.throws(() => room.setState('x'.repeat(1_023)), { code: 'too_big' });
  assert.throws(() => room.setState('ä'.repeat(512)), { code: 'too_big' });
  assert.throws(() => room.setState(() => 1), { code: 'bad_options' });
  assert.deepEqual(world.socket.take(), []);
  room.setState('x'.repeat(1_022));
  await world.pass(100);
  room.setState('\ud83d');
  assert.deepEqual(world.socket.take().map(({ state }) => state), ['x'.repeat(1_022), '\ufffd']);
  await assert.rejects(connect('/chat', { name: 'ann', state: 'x'.repeat(2_000), global: world }), { code: 'too_big' });
  await assert.rejects(connect('/chat', { name: 'ann', roster: -1, global: world }), { code: 'bad_options' });
  await assert.rejects(connect('/chat', { state: 1, global: world }), { code: 'bad_options' });
});
