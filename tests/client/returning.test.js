// How a lost connection is made up for.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mayReturn } from '../../src/browser/chat-rooms.js';
import { attempted, begin, comeBack, enter, entered, said, settled, welcome, World } from './world.js';

/** When each of so many failing attempts begins after the last one has failed. */
async function delays(world, count) {
  const seen = [];
  while (seen.length < count) {
    const [before, attempts] = [world.now, world.sockets.length];
    world.socket.end();
    while (world.sockets.length === attempts) await world.pass(10);
    seen.push(world.now - before);
  }
  return seen;
}

test('the backoff doubles up to its cap, with full jitter', async () => {
  const world = new World();
  await enter(world);
  await world.pass(0);
  assert.deepEqual(await delays(world, 7), [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
  world.random = 0.25;
  assert.deepEqual(await delays(world, 2), [2500, 2500]);
  world.random = 0;
  assert.deepEqual(await delays(world, 3), [10, 10, 10]);
});

test('the backoff is the application\'s to choose', async () => {
  const world = new World();
  await enter(world, { backoff: { base: 100, cap: 300 }, protocols: undefined });
  assert.deepEqual(await delays(world, 4), [100, 200, 300, 300]);
});

test('the backoff begins anew after a connection that held, not after one that did not', async () => {
  const world = new World();
  await enter(world);
  await delays(world, 4);
  await comeBack(world, '2', entered(1, { resumed: true, recovered: true }));
  assert.deepEqual(await delays(world, 1), [8000]);
  await comeBack(world, '3', entered(1, { resumed: true, recovered: true }));
  for (let n = 0; n < 6; n += 1) {
    await world.pass(1000);
    world.socket.say({ event: 'heartbeat', message: 'ping', num: 1 });
  }
  assert.deepEqual(await delays(world, 1), [500]);
});

test('the server says how long to wait, and is not hurried', async () => {
  const world = new World();
  const { room } = await enter(world);
  world.socket.end(1012, 'the server restarts; retry in 5 s');
  assert.deepEqual([room.state, room.reason.closeCode], ['reconnecting', 1012]);
  assert.equal(room.retryAt, world.now + 5_500);
  await world.pass(4_900);
  world.tell('online');
  world.tell('pageshow');
  assert.equal(world.sockets.length, 1);
  await world.pass(100);
  world.tell('online');
  assert.equal(world.sockets.length, 2, 'what is left is jitter');
  assert.equal(room.retryAt, null);
});

test('a wait without end is cut to an hour', async () => {
  const world = new World();
  const { room } = await enter(world);
  world.socket.end(1012, 'retry in 99999999999 s');
  assert.equal(room.retryAt, world.now + 3_600_500);
});

test('a network that is back, a page that is shown: reasons to hope', async () => {
  const world = new World();
  await enter(world);
  await delays(world, 6);
  for (const [type, target] of [['online', world], ['pageshow', world], ['visibilitychange', world.document]]) {
    const attempts = world.sockets.length;
    world.socket.end();
    world.tell(type, target);
    assert.equal(world.sockets.length, attempts + 1, type);
  }
  const attempts = world.sockets.length;
  world.socket.end();
  world.document.hidden = true;
  world.tell('visibilitychange', world.document);
  assert.equal(world.sockets.length, attempts, 'a page that is hidden is none');
});

test('there is one attempt, whatever happens', async () => {
  const world = new World();
  await enter(world, { token: () => new Promise((resolve) => { setImmediate(() => resolve('T')); }) });
  world.socket.end();
  for (let n = 0; n < 50; n += 1) {
    for (const type of ['online', 'pageshow', 'offline']) world.tell(type);
    world.tell('visibilitychange', world.document);
    await settled();
    await world.pass(100);
    assert.equal(world.live, 1);
    assert.equal(world.timers, 1);
  }
  assert.equal(world.sockets.length, 2);
});

test('a stale socket may say what it likes', async () => {
  const world = new World();
  const { room, heard, states } = await enter(world);
  const stale = world.socket;
  await world.pass(2_000);
  assert.equal(stale.closedWith, 4000);
  await comeBack(world, '2', entered(1, { resumed: true, recovered: true }));
  heard.length = states.length = 0;

  stale.say(said(2, 'from the past'));
  stale.say({ event: 'error', code: 'denied', message: 'no' });
  stale.say({ event: 'noAuth', message: 'no' });
  stale.say({ event: 'ack', cid: 'x', seq: 2 });
  stale.end(4500, 'kicked');

  assert.deepEqual([heard, states, room.state, room.position.seq], [[], [], 'online', 1]);
  assert.deepEqual(stale.take(), []);
  world.socket.say(said(2, 'from now'));
  assert.deepEqual(heard.map(({ value }) => value.message), ['from now']);
});

test('codes say whether to come back', async () => {
  const back = [1001, 1006, 1011, 1012, 1013, 4000, 4001, 4002, 4242, 4499];
  const away = [1000, 1002, 1003, 1005, 1007, 1008, 1009, 1010, 1014, 1015, 3000, 3999, 4500, 4501, 4502, 4503, 4999, 5000];
  for (const code of [...back, ...away]) {
    assert.equal(mayReturn(code), back.includes(code), code);
    const world = new World();
    const { room, states } = await enter(world);
    states.length = 0;
    world.socket.end(code, 'so it is');
    assert.deepEqual([room.reason.closeCode, room.reason.message], [code, 'so it is']);
    assert.deepEqual(states, [mayReturn(code) ? 'reconnecting: lost' : 'closed: closed']);
    await world.pass(60_000);
    assert.equal(world.sockets.length > 1, mayReturn(code), code);
  }
});

test('who is kicked while entering is told so', async () => {
  const world = new World();
  const { promise } = begin(world);
  world.socket.accept();
  world.socket.end(4502, 'nobody authenticated in time');
  await assert.rejects(promise, { code: 'closed', closeCode: 4502, message: 'nobody authenticated in time' });
});

test('the browser says that there is no network', async () => {
  const world = new World();
  const { room, states } = await enter(world);
  world.navigator.onLine = false;
  world.tell('offline');
  assert.equal(room.state, 'online', 'as long as frames come');
  world.socket.end();
  assert.equal(room.state, 'offline');
  await world.pass(500);
  assert.equal(world.sockets.length, 2, 'the same machine may be reached all the same');
  world.navigator.onLine = true;
  world.tell('online');
  assert.deepEqual(states, ['online', 'offline: lost', 'reconnecting: lost']);
  world.navigator.onLine = false;
  world.tell('offline');
  assert.equal(room.state, 'offline');
});

test('a page that is left is out, and in again when it is taken out of the cache', async () => {
  const world = new World();
  const { room } = await enter(world);
  world.tell('pagehide');
  assert.deepEqual([world.sockets[0].closedWith, room.state, room.reason.code], [1000, 'reconnecting', 'hidden']);
  world.tell('pageshow');
  assert.equal(world.sockets.length, 2);
});

test('secrets are kept until an enter is answered', async () => {
  const world = new World();
  await enter(world);
  const asked = [];
  for (let n = 2; n <= 12; n += 1) {
    world.socket.end();
    await attempted(world);
    world.socket.accept();
    world.socket.say(welcome(String(n)));
    asked.push(world.socket.take()[0]);
  }
  const secrets = (...ids) => ids.map((id) => `secret ${id}`);
  assert.deepEqual(asked[0].resume, secrets(1));
  assert.deepEqual(asked[1].resume, secrets(1, 2));
  assert.deepEqual(asked[7].resume, secrets(1, 2, 3, 4, 5, 6, 7, 8));
  // The first one stays: it is the last that is known to have had the seat.
  assert.deepEqual(asked[8].resume, secrets(1, 3, 4, 5, 6, 7, 8, 9));
  assert.deepEqual(asked[10].resume, secrets(1, 5, 6, 7, 8, 9, 10, 11));

  world.socket.say(entered(1, { resumed: true, recovered: true }));
  world.socket.end();
  const again = await comeBack(world, '13', entered(1));
  assert.deepEqual(again, { event: 'enter', message: 'ann', roomId: 'tea', since: { epoch: 'E', seq: 1 }, resume: secrets(12) });
});

test('an enter that was never answered may have been the first', async () => {
  const world = new World();
  const { outcome } = begin(world);
  world.socket.accept();
  world.socket.say(welcome('1'));
  world.socket.end();
  const asked = await comeBack(world, '2', entered(5, { resumed: true }));
  assert.deepEqual(asked, { event: 'enter', message: 'ann', roomId: 'tea', resume: ['secret 1'] });
  assert.equal(outcome.room.position.seq, 5);
});

test('a server that keeps no seats gives no secrets', async () => {
  const world = new World();
  await enter(world, {}, { resume: undefined, grace: 0 });
  world.socket.end();
  const asked = await comeBack(world, '2', entered(1), { resume: undefined, grace: 0 });
  assert.deepEqual(asked, { event: 'enter', message: 'ann', roomId: 'tea', since: { epoch: 'E', seq: 1 } });
});

test('what was missed comes once, and in order', async () => {
  const world = new World();
  const { room, heard } = await enter(world);
  world.socket.say(said(2, 'a'));
  world.socket.say(said(2, 'a'));
  world.socket.end();
  const asked = await comeBack(world, '2', entered(4, { resumed: true, recovered: true, num: 7 }));
  assert.deepEqual(asked.since, { epoch: 'E', seq: 2 });
  for (const frame of [said(2, 'a'), said(3, 'b'), said(4, 'c'), said(4, 'c'), said(5, 'd', { num: 8 })]) {
    assert.equal(room.online, 7, 'what was counted then does not count now');
    world.socket.say(frame);
  }
  const told = heard.map(({ type, value, info }) => [type, value.message, info.replayed]);
  assert.deepEqual(told, [['message', 'a', false], ['message', 'b', true], ['message', 'c', true], ['message', 'd', false]]);
  assert.deepEqual([room.position, room.online], [{ epoch: 'E', seq: 5 }, 8]);
});

test('what was missed for good is told', async () => {
  const cases = [
    [{ epoch: 'E', seq: 9 }, true],
    [{ epoch: 'F', seq: 0 }, true],
    [{ epoch: 'F', seq: 1 }, true],
    [{ epoch: 'E', seq: 1 }, false], // Nothing has happened meanwhile.
  ];
  for (const [after, isMissed] of cases) {
    const world = new World();
    const { room, heard } = await enter(world);
    world.socket.end();
    await comeBack(world, '2', entered(after.seq, { epoch: after.epoch }));
    assert.deepEqual(heard.map(({ type, value }) => [type, value]), isMissed ? [['gap', { before: { epoch: 'E', seq: 1 }, after }]] : []);
    assert.deepEqual(room.position, after);
    world.socket.say(said(after.seq + 1, 'new'));
    assert.equal(heard.at(-1).value.message, 'new');
  }
});

test('what the server has dropped is a gap, and no reason to go', async () => {
  const world = new World();
  const { room, heard } = await enter(world);
  for (const missed of ['3', -3, null, undefined]) world.socket.say({ event: 'lagged', missed });
  assert.deepEqual(heard, []);
  world.socket.say({ event: 'lagged', missed: 3 });
  world.socket.say(said(5, 'after'));
  assert.deepEqual(heard.map(({ type }) => type), ['gap', 'message']);
  assert.deepEqual(heard[0].value, { before: { epoch: 'E', seq: 1 }, after: { epoch: 'E', seq: 4 } });
  assert.deepEqual([room.state, room.position], ['online', { epoch: 'E', seq: 5 }]);
});

test('a jump in the order is made good by coming back', async () => {
  const world = new World();
  const { room, heard } = await enter(world);
  world.socket.say(said(3, 'too early'));
  assert.deepEqual([heard, room.state, room.reason.code, world.socket.closedWith], [[], 'reconnecting', 'gap', 4000]);
  const asked = await comeBack(world, '2', entered(3, { resumed: true, recovered: true }));
  assert.deepEqual(asked.since, { epoch: 'E', seq: 1 });
  world.socket.say(said(2, 'lost'));
  world.socket.say(said(3, 'too early'));
  assert.deepEqual(heard.map(({ value }) => value.message), ['lost', 'too early']);
});

test('who comes back under another name has been entered twice', async () => {
  const world = new World();
  const { room, heard, states } = await enter(world);
  world.socket.end();
  await comeBack(world, '2', entered(1, { resumed: true, recovered: true }));
  world.socket.say(entered(2, { name: 'Ann', connection: '2', recovered: true }));
  world.socket.say({ event: 'out', name: 'ann', num: 0, seq: 2 });
  world.socket.say({ event: 'enter', message: 'Ann', name: 'Ann', num: 1, seq: 3 });
  assert.deepEqual([room.state, room.name, room.id, room.position.seq], ['online', 'Ann', '2', 3]);
  assert.deepEqual(heard.map(({ type, info }) => [type, info.own]), [['out', false], ['enter', true]]);
  assert.deepEqual(states, ['online', 'reconnecting: lost', 'online']);
});

test('one\'s own enter is known from others\'', async () => {
  const world = new World();
  const { heard } = await enter(world);
  world.socket.end();
  await comeBack(world, '2', entered(3, { recovered: true }));
  const came = (seq) => ({ event: 'enter', message: 'ann', name: 'ann', num: 2, seq });
  for (const frame of [{ event: 'out', name: 'ann', num: 1, seq: 2 }, came(3), came(4), came(5)]) world.socket.say(frame);
  assert.deepEqual(heard.map(({ type, info }) => [type, info.own]), [['out', false], ['enter', false], ['enter', true], ['enter', false]]);

  world.socket.end();
  await comeBack(world, '3', entered(5, { resumed: true, recovered: true }));
  world.socket.say({ event: 'enter', message: 'bob', name: 'bob', num: 3, seq: 6 });
  assert.equal(heard.at(-1).info.own, false, 'a seat that is kept begins with no enter');
});
