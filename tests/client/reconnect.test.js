// How a client comes back after its connection was lost, and what it finds.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mayReturn } from '../../src/browser/chat-rooms.js';
import { Session } from '../../src/browser/session.js';
import { attempted, beats, begin, came, comeBack, enter, entered, left, said, settled, welcome, welcomed, World } from './world.js';

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

/** Is online again, for so long. */
async function onlineFor(world, connection, seconds, settings = {}) {
  await comeBack(world, connection, entered(1, { resumed: true, recovered: true }), settings);
  await beats(world, seconds);
}

test('the backoff doubles up to its cap, with full jitter', async () => {
  const world = new World();
  begin(world);
  assert.deepEqual(await delays(world, 7), [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
  world.random = 0.25;
  assert.deepEqual(await delays(world, 2), [2500, 2500]);
  world.random = 0;
  assert.deepEqual(await delays(world, 3), [10, 10, 10]);
});

test('the backoff is the application\'s to choose', async () => {
  const world = new World();
  begin(world, { backoff: { base: 100, cap: 300 }, protocols: undefined });
  assert.deepEqual(await delays(world, 4), [100, 200, 300, 300]);
});

test('the backoff begins anew after a connection that held for ten seconds', async () => {
  const world = new World();
  await enter(world);
  await delays(world, 4);
  await onlineFor(world, '2', 9, { resumeWindow: 120_000 });
  assert.deepEqual(await delays(world, 1), [8000]);
  await onlineFor(world, '3', 11);
  assert.deepEqual(await delays(world, 2), [1000, 1000]);
});

test('while the session can be resumed, a wait leaves room for another attempt', () => {
  const session = new Session();
  session.disconnected('1', 10_000, 5_000);
  assert.equal(session.longestWait(5_000), Infinity, 'there is no session');
  session.keepOnly('1');
  session.disconnected('1', 10_000, 20_000);
  // The server may not have read what was sent on this connection.
  session.add('2');
  session.disconnected('2', 10_000, 23_000);
  for (const [now, longest] of [[20_000, 5_000], [23_000, 3_500], [27_000, 1_500], [28_500, 1_000], [29_900, 1_000], [30_000, Infinity]]) {
    assert.equal(session.longestWait(now), longest, `at ${now} ms`);
  }
  session.keepOnly('3');
  session.disconnected('3', 120_000, 31_000);
  assert.equal(session.longestWait(31_000), 60_000);
  session.forget();
  assert.equal(session.longestWait(31_000), Infinity);
});

test('connections that break again and again are followed by attempts within the resume window', async () => {
  const long = [1_000, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000];
  const cases = [
    [0, long], [undefined, long], ['soon', long], [1_000, Array(7).fill(1_000)],
    [10_000, [1_000, 1_000, 2_000, 4_000, 5_000, 5_000, 5_000]], [120_000, long],
  ];
  for (const [resumeWindow, expected] of cases) {
    const world = new World();
    const { room } = await enter(world, {}, { resumeWindow });
    const seen = [];
    for (let n = 0; n < 7; n += 1) {
      world.socket.end();
      seen.push(room.retryAt - world.now);
      await comeBack(world, String(n + 2), entered(1, { resumed: true, recovered: true }), { resumeWindow });
      await world.pass(300);
    }
    assert.deepEqual(seen, expected, resumeWindow);
  }
});

test('attempts that fail come within the resume window, and then as rarely as ever', async () => {
  const world = new World();
  await enter(world);
  // The backoff is long when the outage begins.
  for (let n = 2; n < 8; n += 1) {
    world.socket.end();
    await onlineFor(world, String(n), 1);
  }
  assert.deepEqual(await delays(world, 8), [5_000, 2_500, 1_250, 1_000, 1_000, 10_000, 10_000, 10_000]);
});

test('a wait that the server asks for may be longer than the resume window', async () => {
  const world = new World();
  const { room } = await enter(world);
  world.socket.end(1012, 'the server restarts; retry in 20-40 s');
  assert.equal(room.retryAt, world.now + 40_000);
});

test('after a connection that broke without a reason, clients spread over a second', async () => {
  const world = new World();
  await enter(world);
  await beats(world, 11);
  assert.deepEqual(await delays(world, 1), [1000]);
  for (const [random, delay] of [[0.5, 500], [0.25, 250]]) {
    world.random = random;
    await onlineFor(world, '2', 11);
    assert.deepEqual(await delays(world, 1), [delay]);
  }
});

test('the server says when to come back, and is not hurried', async () => {
  const world = new World();
  const { room } = await enter(world);
  world.socket.end(1012, 'the server restarts; retry in 4-10 s');
  assert.deepEqual([room.state, room.reason.closeCode], ['reconnecting', 1012]);
  assert.equal(room.retryAt, world.now + 10_000);
  await world.pass(3_900);
  world.tell('online');
  world.tell('pageshow');
  assert.equal(world.sockets.length, 1);
  await world.pass(100);
  world.tell('online');
  assert.equal(world.sockets.length, 2, 'what is left is jitter');
  assert.equal(room.retryAt, null);
});

test('the time of the return is random between the bounds that the server gives', async () => {
  const cases = [
    ['retry in 4-10 s', 0, 4_000], ['retry in 4-10 s', 0.5, 7_000], ['retry in 4-10 s', 1, 10_000],
    ['retry in 4 s', 0, 4_000], ['retry in 4 s', 1, 6_000], ['retry in 0-1 s', 0, 0], ['retry in 0-1 s', 1, 1_000],
    ['retry in 4-4 s', 1, 4_000], ['retry in 4-2 s', 1, 4_000], ['retry in 4-10 s, or later', 1, 1_000],
    ['retry in 99999999999 s', 0, 3_600_000], ['retry in 99999999999-999999999999 s', 1, 3_600_000], ['retry in 99999999999 s', 1, 5_400_000],
  ];
  for (const [reason, random, delay] of cases) {
    const world = new World();
    const { room } = await enter(world);
    world.random = random;
    world.socket.end(1012, reason);
    assert.equal(room.retryAt, world.now + delay, `${reason}, ${random}`);
  }
});

test('the time that the server gives replaces the backoff of an earlier outage', async () => {
  const world = new World();
  const { room } = await enter(world);
  await delays(world, 5);
  await onlineFor(world, '2', 1);
  world.socket.end(1012, 'the server restarts; retry in 2-3 s');
  assert.equal(room.retryAt, world.now + 3_000);
  await onlineFor(world, '3', 1, { resumeWindow: 120_000 });
  assert.deepEqual(await delays(world, 1), [10_000], 'without such a time, the backoff goes on');
});

test('a client that is sent away again and again comes back more and more rarely', async () => {
  const world = new World();
  const { room } = await enter(world);
  world.random = 0.5;
  const delays = [];
  for (let n = 0; n < 6; n += 1) {
    world.socket.end(1013, 'retry in 1-2 s');
    delays.push(room.retryAt - world.now);
    await comeBack(world, '2', entered(1));
  }
  assert.deepEqual(delays, [1_500, 1_500, 2_000, 3_000, 5_000, 6_000]);
});

test('a network that is back, a page that is shown: reasons to hope', async () => {
  const world = new World();
  begin(world);
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

test('an error of a socket is handled, also after the client has closed it', async () => {
  const world = new World();
  const { outcome } = begin(world, { attemptTimeout: 1_000 });
  world.socket.fail();
  assert.equal(outcome.error, null, 'the close that follows says more');
  await world.pass(1_000);
  assert.equal(world.socket.closedWith, 4000);
  world.socket.fail();
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
    assert.deepEqual(states, [mayReturn(code) ? 'reconnecting: lost' : code === 4502 ? 'closed: no_auth' : 'closed: closed']);
    await world.pass(60_000);
    assert.equal(world.sockets.length > 1, mayReturn(code), code);
  }
});

test('kicked while entering, the application is told so', async () => {
  const world = new World();
  const { promise } = begin(world);
  world.socket.accept();
  world.socket.end(4500, 'kicked');
  await assert.rejects(promise, { code: 'closed', closeCode: 4500, message: 'kicked' });
});

test('the browser says that there is no network', async () => {
  const world = new World();
  const { room, states } = await enter(world);
  world.navigator.onLine = false;
  world.tell('offline');
  assert.equal(room.state, 'online', 'as long as frames come');
  world.socket.end();
  assert.equal(room.state, 'offline');
  await world.pass(1_000);
  assert.equal(world.sockets.length, 2, 'the same machine may be reached all the same');
  world.navigator.onLine = true;
  world.tell('online');
  assert.deepEqual(states, ['online', 'offline: lost', 'reconnecting: lost']);
  world.navigator.onLine = false;
  world.tell('offline');
  assert.equal(room.state, 'offline');
});

test('before it has ever been in the room, it is connecting or offline', async () => {
  const world = new World();
  world.navigator.onLine = false;
  const { states } = begin(world);
  world.socket.end();
  world.navigator.onLine = true;
  world.tell('online');
  assert.deepEqual(states, ['offline: unreachable', 'connecting: unreachable']);
});

test('a page that is left says goodbye', async () => {
  const world = new World();
  const { room } = await enter(world);
  world.tell('pagehide', world, { persisted: false });
  assert.deepEqual([world.sockets[0].closedWith, room.state, room.reason.code], [1000, 'reconnecting', 'hidden']);
});

test('a page that the browser may restore keeps its session, and comes back when it is shown', async () => {
  const world = new World();
  const { room } = await enter(world);
  world.tell('pagehide', world, { persisted: true });
  assert.deepEqual([world.sockets[0].closedWith, room.state, room.reason.code], [4000, 'reconnecting', 'hidden']);
  world.skip(60_000); // In the cache nothing runs.
  world.tell('pageshow', world, { persisted: true });
  assert.equal(world.sockets.length, 2);
  const asked = await comeBack(world, '2', entered(1, { resumed: true, recovered: true }));
  assert.deepEqual(asked.resume, ['token 1']);
  assert.equal(room.state, 'online');
});

test('resume tokens are kept until an enter or a resume is answered', async () => {
  const world = new World();
  await enter(world);
  const asked = [];
  for (let n = 2; n <= 12; n += 1) {
    world.socket.end();
    await attempted(world);
    world.socket.accept();
    asked.push(await welcomed(world, String(n)));
  }
  const tokens = (...ids) => ids.map((id) => `token ${id}`);
  assert.deepEqual(asked[0].resume, tokens(1));
  assert.deepEqual(asked[1].resume, tokens(1, 2));
  assert.deepEqual(asked[7].resume, tokens(1, 2, 3, 4, 5, 6, 7, 8));
  // The first one stays: it is the last that is known to have had the session.
  assert.deepEqual(asked[8].resume, tokens(1, 3, 4, 5, 6, 7, 8, 9));
  assert.deepEqual(asked[10].resume, tokens(1, 5, 6, 7, 8, 9, 10, 11));

  world.socket.say(entered(1, { resumed: true, recovered: true }));
  world.socket.end();
  const again = await comeBack(world, '13', entered(1));
  assert.deepEqual(again, { resume: tokens(12), enter: { event: 'enter', message: 'ann', roomId: 'tea', since: { epoch: 'E', seq: 1 } } });
});

test('an enter that was never answered may have been the first', async () => {
  const world = new World();
  const { outcome } = begin(world);
  world.socket.accept();
  world.socket.say(welcome('1'));
  world.socket.end();
  const asked = await comeBack(world, '2', entered(5, { resumed: true }));
  assert.deepEqual(asked, { resume: ['token 1'], enter: { event: 'enter', message: 'ann', roomId: 'tea' } });
  assert.equal(outcome.room.position.seq, 5);
});

test('a server without a resume window gives no resume tokens', async () => {
  const world = new World();
  await enter(world, {}, { resume: undefined, resumeWindow: 0 });
  world.socket.end();
  const asked = await comeBack(world, '2', entered(1), { resume: undefined, resumeWindow: 0 });
  assert.deepEqual(asked, { resume: undefined, enter: { event: 'enter', message: 'ann', roomId: 'tea', since: { epoch: 'E', seq: 1 } } });
});

test('what was missed comes once, and in order', async () => {
  const world = new World();
  const { room, heard } = await enter(world);
  world.socket.say(said(2, 'a'));
  world.socket.say(said(2, 'a'));
  world.socket.end();
  const asked = await comeBack(world, '2', entered(4, { resumed: true, recovered: true, num: 7 }));
  assert.deepEqual(asked.enter.since, { epoch: 'E', seq: 2 });
  for (const frame of [said(2, 'a'), said(3, 'b'), said(4, 'c'), said(4, 'c'), said(5, 'd', { num: 8 })]) {
    assert.equal(room.online, 7, 'what was counted then does not count now');
    world.socket.say(frame);
  }
  const told = heard.map(({ type, value, info }) => [type, value.message, info.replayed]);
  assert.deepEqual(told, [['message', 'a', false], ['message', 'b', true], ['message', 'c', true], ['message', 'd', false]]);
  assert.deepEqual([room.position, room.online], [{ epoch: 'E', seq: 5 }, 8]);
});

test('after a restart of the server the room\'s new frames come from their beginning', async () => {
  const world = new World();
  const { room, heard } = await enter(world);
  world.socket.end(1012);
  await comeBack(world, '1', entered(2, { epoch: 'F', replayed: 2 }));
  assert.deepEqual(room.position, { epoch: 'F', seq: 0 });
  for (const frame of [said(1, 'first'), said(2, 'second'), came(3, '1')]) world.socket.say(frame);
  assert.deepEqual(heard.map(({ type, value, info }) => [type, value.seq ?? value.after, info?.replayed]), [
    ['gap', { epoch: 'F', seq: 0 }, undefined], ['message', 1, true], ['message', 2, true], ['enter', 3, false],
  ]);
});

test('what is replayed only in part is told as a gap first', async () => {
  const world = new World();
  const { heard } = await enter(world);
  world.socket.end();
  await comeBack(world, '2', entered(9, { replayed: 2 }));
  world.socket.say(said(8, 'kept'));
  assert.deepEqual(heard.map(({ type, value }) => value.after?.seq ?? value.seq), [7, 8]);
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
  for (const missed of ['3', -3, null, undefined]) world.socket.say({ event: 'lagged', roomId: 'tea', missed });
  assert.deepEqual(heard, []);
  world.socket.say({ event: 'lagged', roomId: 'tea', missed: 3 });
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
  assert.deepEqual(asked.enter.since, { epoch: 'E', seq: 1 });
  world.socket.say(said(2, 'lost'));
  world.socket.say(said(3, 'too early'));
  assert.deepEqual(heard.map(({ value }) => value.message), ['lost', 'too early']);
});

test('back under another name, it has entered twice', async () => {
  const world = new World();
  const { room, heard, states } = await enter(world);
  world.socket.end();
  await comeBack(world, '2', entered(1, { resumed: true, recovered: true }));
  world.socket.say(entered(2, { name: 'Ann', member: '2', recovered: true }));
  world.socket.say(left(2, '1'));
  world.socket.say(came(3, '2', { message: 'Ann', name: 'Ann' }));
  assert.deepEqual([room.state, room.name, room.member, room.position.seq], ['online', 'Ann', '2', 3]);
  assert.deepEqual(heard.map(({ type, info }) => [type, info.own]), [['out', true], ['enter', true]]);
  assert.deepEqual(states, ['online', 'reconnecting: lost', 'online']);
});

test('every enter after the first says where the client is', async () => {
  const world = new World();
  let asked = 0;
  const { room } = await enter(world, { token: async () => `T${asked += 1}` });
  const last = () => ({ epoch: 'E', seq: room.position.seq });
  const answer = (seq, more) => world.socket.say(entered(seq, { resumed: true, recovered: true, replayed: 0, ...more }));
  world.socket.say(said(2, 'x'));
  world.socket.say({ event: 'left', roomId: 'tea', code: 'internal', message: 'put out' });
  await world.pass(500);
  assert.deepEqual(world.socket.take().map(({ since }) => since), [last()], 'put out');
  world.socket.say({ event: 'error', code: 'internal', message: 'no', roomId: 'tea' });
  await world.pass(1_000);
  assert.deepEqual(world.socket.take().map(({ since }) => since), [last()], 'refused');
  answer(3, { replayed: 1 });
  world.socket.say(said(3, 'x'));
  world.socket.say({ event: 'left', roomId: 'tea', code: 'token_expired', message: 'expired' });
  world.socket.say({ event: 'noAuth', message: 'expired' });
  await settled();
  world.socket.say({ event: 'authenticated' });
  assert.deepEqual(world.socket.take().map(({ since }) => since), [undefined, last()], 'expired');
  answer(3);
  world.socket.say({ event: 'left', roomId: 'tea', code: 'denied', message: 'put out' });
  room.enter();
  assert.deepEqual(world.socket.take().map(({ since }) => since), [last()], 'by the application');
  answer(3);
  world.socket.end();
  await attempted(world);
  world.socket.accept();
  world.socket.say(welcome('2'));
  assert.deepEqual(world.socket.take().map(({ event, since }) => [event, since]), [['auth', undefined], ['resume', undefined], ['enter', last()]], 'lost');
});

test('an answer to an enter in the room repeats no frame and skips none', async () => {
  const world = new World();
  const { room, heard } = await enter(world);
  const listen = () => heard.splice(0).map(({ type, value }) => `${type} ${value.seq ?? value.after.seq}`);
  for (const seq of [2, 3]) world.socket.say(said(seq, 'while it was under way'));
  world.socket.say(entered(4, { resumed: true, recovered: true, replayed: 3 }));
  for (const seq of [2, 3, 4, 5]) world.socket.say(said(seq, 'x'));
  assert.deepEqual([listen(), room.position.seq], [['message 2', 'message 3', 'message 4', 'message 5'], 5]);
  world.socket.say(entered(9, { resumed: true, replayed: 2 }));
  for (const seq of [8, 9]) world.socket.say(said(seq, 'x'));
  assert.deepEqual(listen(), ['gap 7', 'message 8', 'message 9']);
  world.socket.say(entered(3, { resumed: true, recovered: true }));
  assert.deepEqual([listen(), room.position.seq], [['gap 3'], 3], 'a server that has lost frames');
});

test('its own enter is told from those of others with the same name', async () => {
  const world = new World();
  const { heard } = await enter(world);
  world.socket.end();
  await comeBack(world, '2', entered(3, { member: '2', recovered: true }));
  for (const frame of [left(2, '1'), came(3, '7'), came(4, '2'), came(5, '8')]) world.socket.say(frame);
  assert.deepEqual(heard.map(({ type, info }) => [type, info.own]), [['out', true], ['enter', false], ['enter', true], ['enter', false]]);
});

test('after a restart of the server another member may have its old id', async () => {
  const world = new World();
  const { heard } = await enter(world);
  world.socket.end(1012);
  await comeBack(world, '2', entered(1, { epoch: 'F', member: '2' }));
  world.socket.say(said(2, 'of somebody else', { member: '1' }));
  world.socket.say(said(3, 'of its own', { member: '2' }));
  assert.deepEqual(heard.map(({ type, info }) => [type, info?.own]), [['gap', undefined], ['message', false], ['message', true]]);
});
