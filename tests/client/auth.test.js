// Tokens: the first one, refused ones, and those that expire.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChatError } from '../../src/browser/chat-rooms.js';
import { attempted, beats, begin, came, comeBack, enter, entered, left, own, said, settled, welcome, World } from './world.js';

const NO_AUTH = (message) => ({ event: 'noAuth', message });
/** The token has expired: the member is removed from its room, and told to authenticate. */
function expire(socket) {
  socket.say({ event: 'left', roomId: 'tea', code: 'token_expired', message: 'the token has expired' });
  socket.say(NO_AUTH('the token has expired'));
}
const AUTH = (message) => ({ event: 'auth', message });

/** A token function that counts: T1, T2, ... */
function tokens() {
  const token = async () => `T${token.asked += 1}`;
  token.asked = 0;
  return token;
}

test('a token goes first', async () => {
  for (const token of ['T', () => 'T', async () => 'T']) {
    const world = new World();
    begin(world, { token, protocols: ['bearer.T'] });
    await settled();
    assert.deepEqual(world.socket.offered, ['chat-rooms.v1', 'bearer.T']);
    world.socket.accept();
    assert.deepEqual(world.socket.take(), [AUTH('T')]);
    world.socket.say(welcome('1'));
    world.socket.say({ event: 'authenticated' });
    assert.deepEqual(world.socket.take(), [{ event: 'enter', message: 'ann', roomId: 'tea' }], 'one enter');
  }
});

test('without a token none is sent', async () => {
  for (const token of [undefined, '', () => null, async () => undefined]) {
    const world = new World();
    begin(world, { token });
    await settled();
    world.socket.accept();
    assert.deepEqual(world.socket.take(), []);
  }
});

test('a refused token that is a string is final', async () => {
  const world = new World();
  const { promise, states } = begin(world, { token: 'T' });
  world.socket.accept();
  world.socket.say(NO_AUTH('expired'));
  await assert.rejects(promise, (error) => error instanceof ChatError && error.code === 'no_auth' && error.message === 'expired');
  assert.deepEqual(states, ['closed: no_auth']);
  await world.pass(600_000);
  assert.deepEqual([world.sockets.length, world.live, world.timers], [1, 0, 0]);
});

test('a refused token is replaced on the same connection, and the enter repeated', async () => {
  const world = new World();
  const { promise, states } = begin(world, { token: tokens() });
  await settled();
  world.socket.accept();
  world.socket.say(welcome('1'));
  assert.deepEqual(world.socket.take().map(({ message }) => message), ['T1', 'ann']);
  world.socket.say(NO_AUTH('expired'));
  await settled();
  assert.deepEqual(world.socket.take(), [AUTH('T2')]);
  world.socket.say(NO_AUTH('authenticate first')); // The answer to the enter.
  await settled();
  assert.deepEqual(world.socket.take(), []);
  world.socket.say({ event: 'authenticated', expiresIn: 60_000 });
  assert.deepEqual(world.socket.take(), [{ event: 'enter', message: 'ann', roomId: 'tea' }]);
  world.socket.say(entered(0));
  assert.equal((await promise).state, 'online');
  assert.deepEqual(states, ['online']);
});

test('the token function is asked anew, for three refusals in a row', async () => {
  const world = new World();
  const token = tokens();
  const { promise, outcome } = begin(world, { token });
  await settled();
  world.socket.accept();
  for (const n of [1, 2, 3]) {
    await settled();
    assert.equal(outcome.error, null);
    assert.deepEqual(world.socket.take(), [AUTH(`T${n}`)]);
    world.socket.say(NO_AUTH('过期'.repeat(100)));
  }
  await assert.rejects(promise, { code: 'no_auth', message: '过期'.repeat(100) });
  assert.deepEqual([token.asked, world.sockets.length], [3, 1]);
});

test('a refusal that is followed by success does not count', async () => {
  const world = new World();
  let refused = 0;
  const { room } = await enter(world, { token: tokens() });
  for (let round = 0; round < 4; round += 1) {
    world.socket.end();
    for (let n = 0; n < 2; n += 1) {
      await attempted(world);
      world.socket.accept();
      world.socket.say(NO_AUTH('expired'));
      world.socket.end(4505, 'not authenticated');
      refused += 1;
    }
    await attempted(world);
    world.socket.accept();
    world.socket.say(welcome('1'));
    world.socket.say(entered(1));
    assert.equal(room.state, 'online', `after ${refused} refusals`);
  }
});

test('a server that wants a token where there is no function says so', async () => {
  const world = new World();
  const { promise } = begin(world);
  world.socket.accept();
  world.socket.say(welcome('1'));
  world.socket.say(NO_AUTH('authenticate first'));
  await assert.rejects(promise, { code: 'no_auth', message: 'authenticate first' });
});

test('a function that has no token any more ends it', async () => {
  const world = new World();
  let token = 'T1';
  const { room } = await enter(world, { token: () => token });
  token = null;
  expire(world.socket);
  assert.equal(room.state, 'outside');
  await settled();
  assert.deepEqual([room.state, room.reason.code, room.reason.message], ['closed', 'no_auth', 'the token has expired']);
});

test('a token function that fails is asked again', async () => {
  const world = new World();
  let asked = 0;
  const token = () => { asked += 1; if (asked < 3) throw new Error('no network'); return 'T'; };
  const { states } = begin(world, { token });
  await settled();
  assert.equal(world.sockets.length, 0);
  await world.pass(2_000);
  assert.deepEqual([asked, world.sockets.length], [3, 1]);
  assert.deepEqual(states, ['connecting: token', 'connecting: token']);
});

test('a token function that returns no text fails', async () => {
  const tokens = [7, { token: 'T' }, true, 'T'];
  for (const isLate of [false, true]) {
    const world = new World();
    const left = [...tokens];
    const { states } = begin(world, { token: () => (isLate ? Promise.resolve(left.shift()) : left.shift()) });
    await world.pass(5_000);
    assert.deepEqual(states, Array(3).fill('connecting: token'));
    world.socket.accept();
    assert.deepEqual(world.socket.take(), [AUTH('T')]);
  }
});

test('a token function that fails too late changes nothing', async () => {
  const world = new World();
  const waiting = [];
  const token = () => new Promise((_, reject) => { waiting.push(reject); });
  const { states } = begin(world, { token, attemptTimeout: 1_000 });
  await world.pass(1_600);
  waiting[0](new Error('no network'));
  await settled();
  assert.deepEqual([states, waiting.length], [['connecting: timeout'], 2]);
});

test('a token that comes too late is not used', async () => {
  const world = new World();
  const waiting = [];
  begin(world, { token: () => new Promise((resolve) => { waiting.push(resolve); }), attemptTimeout: 1_000 });
  await world.pass(1_600);
  assert.equal(waiting.length, 2, 'the first attempt was given up');
  waiting[0]('old');
  await settled();
  assert.equal(world.sockets.length, 0);
  waiting[1]('new');
  await settled();
  world.socket.accept();
  assert.deepEqual(world.socket.take(), [AUTH('new')]);
});

test('a token that expires is renewed in band, and nobody notices', async () => {
  const world = new World();
  const token = tokens();
  const { room, heard, states } = await enter(world, { token });
  for (let n = 2; n < 5; n += 1) {
    await beats(world, 30);
    world.socket.say({ event: 'expiring', in: 30_000 });
    await world.pass(0);
    assert.deepEqual(world.socket.take(), [AUTH(`T${n}`)]);
    world.socket.say({ event: 'authenticated', expiresIn: 60_000 });
  }
  assert.deepEqual(world.socket.take(), [], 'no enter');
  assert.deepEqual([heard, states, room.state, world.sockets.length], [[], ['online'], 'online', 1]);
});

test('tokens that live no longer than the warning are not fetched in a loop', async () => {
  const world = new World();
  const token = tokens();
  await enter(world, { token });
  for (let second = 0; second < 100; second += 1) {
    for (const frame of world.socket.take()) {
      assert.equal(frame.event, 'auth');
      world.socket.say({ event: 'authenticated', expiresIn: 20_000 });
      world.socket.say({ event: 'expiring', in: 20_000 });
    }
    if (second === 0) world.socket.say({ event: 'expiring', in: 20_000 });
    await beats(world, 1);
  }
  assert.ok(token.asked > 5 && token.asked < 12, `asked ${token.asked} times`);
});

test('without a function an expiring token is nothing that can be helped', async () => {
  const world = new World();
  const { heard } = await enter(world, { token: 'T' });
  world.socket.say({ event: 'expiring', in: 1_000 });
  await beats(world, 2);
  assert.deepEqual([world.socket.take(), heard], [[], []]);
});

test('a renewal that is refused is told, and tried again while the old token counts', async () => {
  const world = new World();
  const token = tokens();
  const { room, heard } = await enter(world, { token });
  await beats(world, 30);
  world.socket.say({ event: 'expiring', in: 30_000 });
  for (const n of [2, 3, 4]) {
    await beats(world, 6);
    assert.deepEqual(world.socket.take(), [AUTH(`T${n}`)]);
    world.socket.say(NO_AUTH('not yet valid'));
  }
  await beats(world, 10);
  assert.deepEqual(world.socket.take(), [], 'the server closes clients that fail too often');
  assert.deepEqual([room.state, heard.map(({ type, value }) => `${type}: ${value.code}`)], ['online', Array(3).fill('error: no_auth')]);
});

test('after a renewal that was refused, the next token changes nothing in the room', async () => {
  const world = new World();
  const { room, states } = await enter(world, { token: tokens() });
  await world.pass(1_500);
  world.socket.say({ event: 'expiring', in: 10 });
  await world.pass(0);
  world.socket.say(NO_AUTH('not yet valid'));
  await beats(world, 6);
  assert.deepEqual(world.socket.take(), [AUTH('T2'), AUTH('T3')]);
  world.socket.say({ event: 'authenticated' });
  assert.deepEqual([world.socket.take(), states, room.state], [[], ['online'], 'online'], 'no enter');
});

test('a token function that fails on renewal is told, and asked again', async () => {
  const world = new World();
  let asked = 0;
  const token = () => { asked += 1; if (asked === 2) throw new Error('no network'); return `T${asked}`; };
  const { heard } = await enter(world, { token });
  await beats(world, 30);
  world.socket.say({ event: 'expiring', in: 30_000 });
  await beats(world, 6);
  assert.deepEqual(heard.map(({ type, value }) => [type, value.code, value.cause.message]), [['error', 'token', 'no network']]);
  assert.deepEqual(world.socket.take(), [AUTH('T3')]);
});

test('out of the room for an expired token, it authenticates and enters again with what it has', async () => {
  const world = new World();
  const { room, heard, states } = await enter(world, { token: tokens() });
  const sending = room.send('under way');
  const [message] = world.socket.take();
  expire(world.socket);
  assert.deepEqual([room.state, room.reason.code], ['outside', 'token_expired']);
  await settled();
  assert.deepEqual(world.socket.take(), [AUTH('T2')]);
  world.socket.say(NO_AUTH('authenticate first')); // The answer to the message.
  await settled();
  assert.deepEqual(world.socket.take(), []);
  world.socket.say({ event: 'authenticated' });
  assert.deepEqual(world.socket.take(), [{ event: 'enter', message: 'ann', roomId: 'tea', since: { epoch: 'E', seq: 1 } }]);
  world.socket.say(entered(3, { member: '2', recovered: true, replayed: 2 }));
  assert.equal(room.state, 'online');
  world.socket.say(left(2, '1'));
  world.socket.say(said(3, 'meanwhile'));
  assert.deepEqual(world.socket.take(), [message], 'it was not in the replay');
  world.socket.say({ event: 'ack', cid: message.cid, seq: 5 });
  assert.deepEqual(await sending, { seq: 5 });
  world.socket.say(came(4, '2'));
  assert.deepEqual(heard.map(({ type }) => type), ['out', 'message', 'enter']);
  assert.deepEqual([states, world.sockets.length], [['online', 'outside: token_expired', 'online'], 1]);
});

test('a token that expires while the next one is on its way', async () => {
  const world = new World();
  const token = tokens();
  const { room } = await enter(world, { token });
  await world.pass(1_500);
  world.socket.say({ event: 'expiring', in: 10 });
  await world.pass(100);
  assert.deepEqual(world.socket.take(), [AUTH('T2')]);
  expire(world.socket); // Said before the new one arrived.
  world.socket.say({ event: 'authenticated' });
  assert.deepEqual(world.socket.take(), [{ event: 'enter', message: 'ann', roomId: 'tea', since: { epoch: 'E', seq: 1 } }]);
  world.socket.say(entered(2, { member: '2', recovered: true, replayed: 1 }));
  assert.deepEqual([room.state, room.member, token.asked], ['online', '2', 2]);
});

test('the room was left for an expired token, and so was the next one refused', async () => {
  const world = new World();
  const { room } = await enter(world, { token: tokens() });
  room.send('acknowledged');
  const [{ cid }] = world.socket.take();
  world.socket.say({ event: 'ack', cid, seq: 2 });
  await world.pass(1_500);
  room.send('under way').catch(() => {});
  world.socket.say({ event: 'expiring', in: 10 });
  await world.pass(0);
  const [message, auth] = world.socket.take();
  assert.deepEqual([message.message, auth], ['under way', AUTH('T2')]);
  expire(world.socket);
  world.socket.say(NO_AUTH('authenticate first')); // The answer to the message.
  await settled();
  assert.deepEqual(world.socket.take(), []);
  world.socket.say(NO_AUTH('bad signature')); // The answer to the token.
  await settled();
  assert.deepEqual([world.socket.take(), room.reason.message], [[AUTH('T3')], 'bad signature']);
});

test('a message that is under way may have come with the replay', async () => {
  const world = new World();
  const { room } = await enter(world, { token: tokens() });
  const sending = room.send('a');
  const [a] = world.socket.take();
  world.socket.end();
  await comeBack(world, '2', entered(2, { resumed: true, recovered: true, replayed: 1 }));
  assert.deepEqual(world.socket.take(), [a], 'the session knows it');
  world.socket.say(own(2, 'a', a.cid));
  await sending;
  expire(world.socket);
  await settled();
  assert.deepEqual(world.socket.take(), [AUTH('T3')]);
  world.socket.say(NO_AUTH('authenticate first')); // The answer to the message.
  await settled();
  assert.deepEqual(world.socket.take(), [], 'no token was refused');
});

test('closed for an expired token, it asks for one token and comes back with it', async () => {
  for (const answersAfter of ['the frame', 'the close', 'the next attempt']) {
    const world = new World();
    const waiting = [];
    const token = () => (waiting.push(null) === 1 ? 'T1' : new Promise((resolve) => { waiting[waiting.length - 1] = resolve; }));
    const { room, states } = await enter(world, { token });
    const answerAfter = async (moment) => {
      if (moment === answersAfter) waiting[1]('T2');
      await settled();
    };
    expire(world.socket);
    await answerAfter('the frame');
    assert.deepEqual(world.socket.take(), answersAfter === 'the frame' ? [AUTH('T2')] : []);
    world.socket.end(4504, 'the token has expired');
    await answerAfter('the close');
    await world.pass(0);
    await answerAfter('the next attempt');
    assert.equal(world.sockets.length, 2);
    world.socket.accept();
    assert.deepEqual(world.socket.take(), [AUTH('T2')]);
    world.socket.say({ event: 'authenticated' });
    world.socket.say(welcome('2'));
    world.socket.say(entered(2, { member: '2', recovered: true, replayed: 1 }));
    assert.deepEqual([room.state, waiting.length], ['online', 2], answersAfter);
    assert.deepEqual(states, ['online', 'outside: token_expired', 'reconnecting: no_auth', 'online']);
  }
});

test('a renewal that is under way when the server closes is not wasted', async () => {
  const world = new World();
  const token = tokens();
  await enter(world, { token });
  await world.pass(1_500);
  world.socket.say({ event: 'expiring', in: 10 });
  await world.pass(0);
  assert.deepEqual(world.socket.take(), [AUTH('T2')]);
  expire(world.socket);
  world.socket.end(4504, 'the token has expired');
  await attempted(world);
  world.socket.accept();
  assert.deepEqual([world.socket.take(), token.asked], [[AUTH('T2')], 2]);
  world.socket.end();
  await attempted(world);
  world.socket.accept();
  assert.deepEqual([world.socket.take(), token.asked], [[AUTH('T3')], 3], 'a lost token may have been read');
});

/** The server reads no token at the moment. */
const LATER = (retryAfter) => ({ event: 'error', code: 'rate_limited', message: 'too many tokens', retryAfter });

test('a token that the server does not read at the moment is sent later, and then the enter', async () => {
  for (const [isFunction, second] of [[false, 'T1'], [true, 'T2']]) {
    for (const answersEnter of [true, false]) {
      const world = new World();
      const { promise, states } = begin(world, { token: isFunction ? tokens() : 'T1' });
      await settled();
      world.socket.accept();
      world.socket.say(welcome('1'));
      world.socket.take();
      world.socket.say(LATER(700));
      if (answersEnter) world.socket.say(NO_AUTH('authenticate first'));
      await world.pass(699);
      assert.deepEqual(world.socket.take(), []);
      await world.pass(1);
      assert.deepEqual(world.socket.take(), [AUTH(second)]);
      if (!answersEnter) world.socket.say(NO_AUTH('authenticate first'));
      world.socket.say({ event: 'authenticated' });
      assert.deepEqual(world.socket.take(), [{ event: 'enter', message: 'ann', roomId: 'tea' }]);
      world.socket.say(entered(0));
      await promise;
      assert.deepEqual(states, ['connecting: rate_limited', 'online']);
      assert.equal(world.sockets.length, 1);
    }
  }
});

test('without a time the token is sent again after a second, and as often as the server asks for it', async () => {
  const world = new World();
  const { promise } = begin(world, { token: 'T' });
  world.socket.accept();
  world.socket.say(welcome('1'));
  assert.equal(world.socket.take().length, 2);
  world.socket.say(LATER());
  world.socket.say(NO_AUTH('authenticate first'));
  for (let n = 0; n < 5; n += 1) {
    await world.pass(1_000);
    assert.deepEqual(world.socket.take(), [AUTH('T')]);
    world.socket.say(LATER(undefined));
  }
  await world.pass(1_000);
  world.socket.say({ event: 'authenticated' });
  world.socket.say(entered(0));
  assert.equal((await promise).state, 'online');
});

test('a token is waited for as long as the server says, and then for its answer', async () => {
  const world = new World();
  begin(world, { token: 'T', attemptTimeout: 5_000 });
  world.socket.accept();
  world.socket.say(welcome('1'));
  world.socket.say(LATER(30_000));
  world.socket.say(NO_AUTH('authenticate first'));
  world.socket.take();
  await beats(world, 30);
  assert.deepEqual([world.socket.take(), world.sockets.length], [[AUTH('T')], 1]);
  await beats(world, 5);
  assert.equal(world.sockets[0].closedWith, 4000);
});

test('a token that is put off is an attempt too', async () => {
  const world = new World();
  const { promise } = begin(world, { token: 'T', maxAttempts: 2 });
  world.socket.accept();
  world.socket.say(welcome('1'));
  world.socket.say(LATER(100));
  world.socket.say(NO_AUTH('authenticate first'));
  await world.pass(100);
  world.socket.say(LATER(100));
  await assert.rejects(promise, { code: 'gave_up', message: 'gave up after 2 attempts: too many tokens' });
  assert.equal(world.timers, 0);
});

test('an enter that is put off is not mistaken for a token', async () => {
  const world = new World();
  const { promise } = begin(world, { token: 'T' });
  world.socket.accept();
  world.socket.say(welcome('1'));
  world.socket.take();
  world.socket.say({ event: 'authenticated' });
  world.socket.say(LATER(200));
  await world.pass(300);
  assert.deepEqual(world.socket.take(), [{ event: 'enter', message: 'ann', roomId: 'tea' }]);
  world.socket.say(entered(0));
  assert.equal((await promise).state, 'online');
});

test('a token and the enter behind it may both be put off', async () => {
  for (const [token, enterAfter] of [[700, 300], [300, 700]]) {
    const world = new World();
    const { promise } = begin(world, { token: 'T' });
    world.socket.accept();
    world.socket.say(welcome('1'));
    world.socket.take();
    world.socket.say(LATER(token));
    world.socket.say(LATER(enterAfter));
    let enters = 0;
    let isAuthenticated = false;
    world.socket.onsent = ({ event }) => world.setTimeout(() => {
      if (event === 'auth') isAuthenticated = true;
      if (event === 'enter') enters += 1;
      if (event === 'auth') world.socket.say({ event: 'authenticated' });
      else world.socket.say(isAuthenticated ? entered(0) : NO_AUTH('authenticate first'));
    }, 10);
    await world.pass(1_500);
    assert.equal((await promise).state, 'online');
    assert.deepEqual([world.sockets.length, enters], [1, token > enterAfter ? 2 : 1]);
  }
});

test('a renewal that is put off is sent later, and nobody notices', async () => {
  const world = new World();
  const { room, heard, states } = await enter(world, { token: tokens() });
  await beats(world, 30);
  const sending = room.send('under way');
  const [{ cid }] = world.socket.take();
  world.socket.say({ event: 'expiring', in: 30_000 });
  await world.pass(0);
  assert.deepEqual(world.socket.take(), [AUTH('T2')]);
  world.socket.say({ event: 'ack', cid, seq: 2 });
  world.socket.say(LATER(700));
  await world.pass(700);
  assert.deepEqual(world.socket.take(), [AUTH('T3')]);
  world.socket.say({ event: 'authenticated' });
  await sending;
  assert.deepEqual([heard, states, room.state, world.socket.take()], [[], ['online'], 'online', []], 'no enter');
});

test('out of the room for an expired token, one that is put off is sent later', async () => {
  const world = new World();
  const { room, states } = await enter(world, { token: tokens() });
  expire(world.socket);
  await settled();
  world.socket.take();
  world.socket.say(LATER(700));
  await world.pass(700);
  assert.deepEqual(world.socket.take(), [AUTH('T3')]);
  world.socket.say({ event: 'authenticated' });
  assert.deepEqual(world.socket.take(), [{ event: 'enter', message: 'ann', roomId: 'tea', since: { epoch: 'E', seq: 1 } }]);
  world.socket.say(entered(1, { member: '2', recovered: true, replayed: 0 }));
  assert.equal(room.state, 'online');
  assert.deepEqual(states, ['online', 'outside: token_expired', 'outside: rate_limited', 'online']);
});

test('without a function it stays outside until the server closes', async () => {
  const world = new World();
  const { room, states } = await enter(world, { token: 'T' });
  expire(world.socket);
  world.socket.end(4502, 'never authenticated');
  assert.deepEqual(states, ['online', 'outside: token_expired', 'closed: no_auth']);
  assert.deepEqual([room.reason.closeCode, room.reason.message], [4502, 'the token has expired']);
});

test('closed for its token, it comes back at once with another', async () => {
  for (const code of [4502, 4504, 4505]) {
    const world = new World();
    const { room, states } = await enter(world, { token: tokens() });
    world.socket.end(code, 'so it is');
    assert.equal(states.at(-1), 'reconnecting: no_auth');
    await world.pass(0);
    assert.equal(world.sockets.length, 2);
    world.socket.accept();
    assert.deepEqual(world.socket.take(), [AUTH('T2')]);
    world.socket.say(welcome('2'));
    world.socket.say(entered(1, { resumed: true, recovered: true, replayed: 0 }));
    assert.equal(room.state, 'online', String(code));
  }
});

test('closed for its token again and again, it gives up and says why', async () => {
  for (const [code, says] of [[4505, 'bad signature'], [4502, null]]) {
    const world = new World();
    const token = tokens();
    const { promise } = begin(world, { token });
    for (let n = 0; n < 3; n += 1) {
      await world.pass(10_000);
      assert.equal(world.sockets.length, n + 1);
      world.socket.accept();
      if (says) world.socket.say(NO_AUTH(says));
      if (world.socket.readyState === 1) world.socket.end(code, 'not authenticated');
    }
    await assert.rejects(promise, { code: 'no_auth', message: says ?? 'not authenticated' });
    await world.pass(60_000);
    assert.deepEqual([world.sockets.length, world.timers], [3, 0]);
  }
});

test('closed for its token without a function, it gives up at once', async () => {
  const world = new World();
  const { promise } = begin(world, { token: 'T' });
  world.socket.accept();
  world.socket.end(4505, 'not authenticated');
  await assert.rejects(promise, { code: 'no_auth', closeCode: 4505, message: 'not authenticated' });
});

test('the application sends another token at any time', async () => {
  const world = new World();
  let token = null;
  const { promise } = begin(world, { token: () => token });
  await settled();
  world.socket.accept();
  world.socket.say(welcome('1'));
  world.socket.say(entered(0));
  const room = await promise;
  world.socket.take();
  room.authenticate();
  await settled();
  assert.deepEqual(world.socket.take(), [], 'there is none');
  token = 'T';
  room.authenticate();
  await settled();
  assert.deepEqual([world.socket.take(), room.state], [[AUTH('T')], 'online']);
  world.socket.say({ event: 'authenticated' });
  assert.equal(room.state, 'online');
});

test('a token that the application gets while the client reconnects is sent once it is connected', async () => {
  const world = new World();
  let token = null;
  const { room } = await enter(world, { token: () => token });
  world.socket.end();
  await attempted(world);
  world.socket.accept();
  token = 'T';
  room.authenticate();
  await settled();
  assert.deepEqual(world.socket.take(), []);
  world.socket.say(welcome('2'));
  await settled();
  assert.deepEqual(world.socket.take().filter(({ event }) => event === 'auth'), [AUTH('T')]);
});
