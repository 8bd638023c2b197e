// Connected, but out of the room.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attempted, beats, came, comeBack, enter, entered, left, said, settled, welcome, welcomed, World } from './world.js';

const PUT_OUT = (code, more = {}) => ({ event: 'left', roomId: 'tea', code, message: 'so it is', ...more });
/** A refused enter. */
const REFUSED = (code, message) => ({ event: 'error', code, message, roomId: 'tea' });
const AGAIN = { event: 'enter', message: 'ann', roomId: 'tea', since: { epoch: 'E', seq: 1 } };

test('a member that is put out of the room is outside, and stays there', async () => {
  const world = new World();
  const { room, heard, states } = await enter(world);
  world.socket.say(PUT_OUT('denied'));
  assert.deepEqual([room.state, room.reason.code, room.reason.message, room.retryAt], ['outside', 'denied', 'so it is', null]);
  await beats(world, 60);
  assert.deepEqual([world.socket.take(), world.sockets.length], [[], 1]);
  assert.deepEqual([heard, states], [[], ['online', 'outside: denied']]);
});

test('the application may have it enter again', async () => {
  const world = new World();
  const { room, states } = await enter(world);
  room.enter();
  assert.deepEqual(world.socket.take(), [], 'it is in the room');
  world.socket.say(PUT_OUT('denied'));
  room.enter();
  room.enter();
  assert.deepEqual(world.socket.take(), [AGAIN]);
  world.socket.say(REFUSED('denied', 'still'));
  assert.deepEqual([room.state, room.reason.message], ['outside', 'still']);
  room.enter();
  assert.deepEqual(world.socket.take(), [AGAIN]);
  world.socket.say(entered(1, { member: '2', recovered: true, replayed: 0 }));
  assert.deepEqual([room.state, room.member], ['online', '2']);
  world.socket.end();
  room.enter();
  assert.deepEqual(states, ['online', 'outside: denied', 'outside: denied', 'online', 'reconnecting: lost']);
});

test('put out for a reason that passes, it enters again by itself', async () => {
  for (const code of ['internal', 'unavailable', 'rate_limited']) {
    const world = new World();
    const { room } = await enter(world);
    world.socket.say(PUT_OUT(code, { retryAfter: 200 }));
    assert.deepEqual([room.state, room.retryAt], ['outside', world.now + 300], code);
    await world.pass(300);
    assert.equal(room.retryAt, null);
    assert.deepEqual(world.socket.take(), [AGAIN]);
    world.socket.say(entered(1, { member: '2', recovered: true, replayed: 0 }));
    assert.equal(room.state, 'online');
  }
});

test('what is sent outside waits, and what was under way is sent again in the room', async () => {
  const world = new World();
  const { room } = await enter(world);
  const sending = [room.send('a')];
  const [a] = world.socket.take();
  world.socket.say(PUT_OUT('internal'));
  world.socket.say({ event: 'error', code: 'not_entered', message: 'enter first', cid: a.cid });
  sending.push(room.send('b'));
  assert.deepEqual([room.state, world.socket.take()], ['outside', []]);
  await world.pass(500);
  world.socket.take();
  world.socket.say(entered(2, { member: '2', recovered: true, replayed: 1 }));
  assert.deepEqual(world.socket.take(), [], 'it may be in the replay');
  world.socket.say(left(2, '1'));
  const sent = world.socket.take();
  assert.deepEqual(sent.map(({ message }) => message), ['a', 'b']);
  sent.forEach(({ cid }, n) => world.socket.say({ event: 'ack', cid, seq: n + 4 }));
  assert.deepEqual((await Promise.all(sending)).map(({ seq }) => seq), [4, 5]);
});

test('a message that finds the room left without a notice makes it enter again', async () => {
  const world = new World();
  const { room } = await enter(world);
  room.send('a').catch(() => {});
  const [a] = world.socket.take();
  world.socket.say({ event: 'error', code: 'not_entered', message: 'enter first', cid: a.cid });
  assert.deepEqual([room.state, room.reason.code], ['outside', 'not_entered']);
  await world.pass(500);
  assert.deepEqual(world.socket.take(), [AGAIN]);
  world.socket.say(entered(1, { member: '2', recovered: true, replayed: 0 }));
  assert.deepEqual([room.state, world.socket.take()], ['online', [a]]);
});

test('a lost connection brings it back into the room, or ends it if that is denied', async () => {
  const world = new World();
  const { room, states } = await enter(world);
  world.socket.say(PUT_OUT('denied'));
  world.socket.end(4002, 'no room was entered in time');
  const sent = await comeBack(world, '2', entered(1, { member: '2' }));
  assert.deepEqual(sent, { resume: ['token 1'], enter: AGAIN });
  assert.equal(room.state, 'online');

  world.socket.say(PUT_OUT('denied'));
  world.socket.end();
  await comeBack(world, '3', REFUSED('denied', 'banned'));
  assert.deepEqual([room.state, room.reason.code, room.reason.message], ['closed', 'denied', 'banned']);
  assert.deepEqual(states, ['online', 'outside: denied', 'reconnecting: lost', 'online', 'outside: denied', 'reconnecting: lost', 'closed: denied']);
});

test('on coming back, only what cannot pass is final', async () => {
  const codes = {
    denied: 'closed', bad_name: 'closed', bad_room_id: 'closed', name_taken: 'outside', room_full: 'outside', too_many_rooms: 'outside', too_many_memberships: 'outside', internal: 'outside',
  };
  for (const [code, state] of Object.entries(codes)) {
    const world = new World();
    const { room } = await enter(world);
    world.socket.end();
    await comeBack(world, '2', REFUSED(code, 'no'));
    assert.deepEqual([room.state, room.reason.code], [state, code]);
    await beats(world, 2);
    const again = world.socket.take();
    assert.deepEqual(again.map(({ event }) => event), state === 'outside' ? ['enter'] : [], code);
    assert.equal(world.sockets.length, 2);
  }
});

test('an enter that is refused again and again is tried more and more rarely', async () => {
  const world = new World();
  const { room } = await enter(world);
  world.socket.end();
  await attempted(world);
  world.socket.accept();
  world.socket.say(welcome('2'));
  const delays = [];
  for (let n = 0; n < 6; n += 1) {
    world.socket.say(REFUSED('room_full', 'no'));
    delays.push(room.retryAt - world.now);
    while (room.retryAt) await beats(world, 1);
  }
  assert.deepEqual(delays, [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
});

test('an enter that is refused again and again is tried when the server says', async () => {
  const world = new World();
  const { room } = await enter(world);
  const delays = [];
  const refuse = (retryAfter) => {
    world.socket.say({ ...REFUSED('unavailable', 'no'), retryAfter });
    delays.push(room.retryAt - world.now);
  };
  for (let n = 2; n <= 5; n += 1) {
    world.socket.end();
    await attempted(world);
    world.socket.accept();
    await welcomed(world, String(n));
    for (const retryAfter of [200, 200, 3_000]) {
      refuse(retryAfter);
      while (room.retryAt) await beats(world, 1);
    }
  }
  world.random = 0;
  refuse(200);
  const again = [1_200, 1_200, 4_500];
  assert.deepEqual(delays, [300, 1_200, 4_500, ...again, ...again, ...again, 200]);
});

test('after ten seconds in the room, the backoff begins anew for enters too', async () => {
  const world = new World();
  const { room } = await enter(world);
  const delays = [];
  for (const seconds of [9, 9, 9, 11, 9]) {
    world.socket.say(PUT_OUT('internal'));
    delays.push(room.retryAt - world.now);
    while (room.retryAt) await beats(world, 1);
    world.socket.say(entered(1, { member: '2', recovered: true, replayed: 0 }));
    await beats(world, seconds);
  }
  assert.deepEqual([delays, world.sockets.length], [[500, 1_000, 2_000, 4_000, 500], 1]);
});

test('time outside of the room does not begin the backoff anew', async () => {
  const world = new World();
  const { room } = await enter(world, {}, { resumeWindow: 120_000 });
  const delays = [];
  for (let n = 0; n < 5; n += 1) {
    world.socket.say(n === 0 ? PUT_OUT('internal') : REFUSED('internal', 'no'));
    delays.push(room.retryAt - world.now);
    while (room.retryAt) await beats(world, 1);
  }
  world.socket.end();
  delays.push(room.retryAt - world.now);
  assert.deepEqual(delays, [500, 1_000, 2_000, 4_000, 8_000, 10_000], 'it was in the room for a moment only');
});

test('a silent server is noticed outside of the room too', async () => {
  const world = new World();
  const { room } = await enter(world);
  world.socket.say(PUT_OUT('denied'));
  await world.pass(2_000);
  assert.deepEqual([room.state, room.reason.code], ['reconnecting', 'timeout']);
});

test('frames of the room that come late are not its frames any more', async () => {
  const world = new World();
  const { room, heard } = await enter(world);
  world.socket.say(PUT_OUT('denied'));
  world.socket.say(said(2, 'late'));
  world.socket.say({ event: 'lagged', roomId: 'tea', missed: 3 });
  assert.deepEqual([heard, room.position.seq], [[], 1]);
  room.enter();
  world.socket.say(entered(3, { member: '2', recovered: true, replayed: 2 }));
  for (const frame of [said(2, 'late'), left(3, '1'), came(4, '2')]) world.socket.say(frame);
  assert.deepEqual(heard.map(({ value }) => value.seq), [2, 3, 4]);
});

test('it can leave from outside', async () => {
  const world = new World();
  const { room } = await enter(world);
  const sending = room.send('a');
  world.socket.say(PUT_OUT('internal'));
  room.leave();
  await assert.rejects(sending, { code: 'closed' });
  await settled();
  assert.deepEqual([room.state, world.socket.closedWith, world.timers], ['closed', 1000, 0]);
});
