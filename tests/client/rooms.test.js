// Several rooms on one connection.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from '../../src/browser/chat-rooms.js';
import { Network, Server } from './server.js';
import { attempted, beats, NO_RATES, settled, World } from './world.js';

/** Connects to a server. `heard` collects what the application is told about each room, `states` the states of the chat. */
async function open(settings = {}, options = {}) {
  const world = new World();
  const server = new Server(settings);
  const network = new Network(world, server);
  const states = [];
  const note = ({ state, reason }) => states.push(reason ? `${state}: ${reason.code}` : state);
  const opening = connect('/chat', { global: world, on: { state: note }, ...options });
  await network.pump();
  const chat = await opening;
  const heard = {};
  const join = async (id, more = {}) => {
    heard[id] = { frames: [], states: [], gaps: 0 };
    const { frames, states: seen } = heard[id];
    const on = {
      '*': (frame, info) => frames.push({ ...frame, info }),
      state: ({ state, reason }) => seen.push(reason ? `${state}: ${reason.code}` : state),
      gap: () => { heard[id].gaps += 1; },
    };
    const joining = chat.join(id, { name: 'ann', on, ...more });
    joining.catch(() => {});
    await network.pump();
    return joining;
  };
  const texts = (id) => heard[id].frames.filter(({ event }) => event === 'message').map(({ message }) => message);
  /** Lets the connection be lost and waits until the client is back. */
  const flap = async () => {
    network.cut();
    await attempted(world);
    await network.pump();
  };
  return { world, server, network, chat, join, heard, texts, states, flap };
}

const members = (server, id) => [...server.room(id).members.values()].map(({ rooms }) => rooms.get(id));
const events = (socket, ...wanted) => socket.sent.filter(({ event }) => wanted.includes(event));

test('a chat is open when the server has said its welcome, and rooms share its connection', async () => {
  const { world, server, network, chat, join, heard, texts, states } = await open();
  assert.deepEqual([chat.state, states, chat.rooms], ['online', ['online'], []]);
  const [tea, coffee] = [await join('tea'), await join(42)];
  assert.deepEqual([tea.id, coffee.id, tea.member, coffee.member], ['tea', '42', '1', '1']);
  assert.deepEqual(chat.rooms, [tea, coffee]);
  const sending = [tea.send('in tea'), coffee.send('in 42')];
  await network.pump();
  assert.deepEqual(await Promise.all(sending), [{ seq: 2 }, { seq: 2 }]);
  server.say('tea', 'hi');
  await network.pump();
  assert.deepEqual([texts('tea'), texts(42)], [['in tea', 'hi'], ['in 42']]);
  assert.deepEqual(heard.tea.frames.map(({ info }) => info.own), [true, true, false]);
  assert.deepEqual([tea.position.seq, coffee.position.seq, tea.online], [3, 2, 1]);
  assert.deepEqual([world.sockets.length, heard.tea.states, heard[42].states], [1, ['online'], ['online']]);
});

test('with a token, a chat is open once it is accepted, or ignored by a server without authentication', async () => {
  for (const needsToken of [true, false]) {
    const { world, chat, join } = await open({ needsToken }, { token: async () => 'T' });
    assert.equal(chat.state, 'online');
    const [first] = world.socket.sent;
    assert.deepEqual(first, { event: 'auth', message: 'T' });
    assert.equal((await join('tea')).state, 'online');
    assert.equal(world.timers, 1, 'nothing is waited for but heartbeats');
  }
});

test('a chat without an accepted token is not open', async () => {
  const world = new World();
  const opening = connect('/chat', { global: world, token: 'T' });
  world.socket.accept();
  world.socket.say({ event: 'welcome', connection: '1' });
  await settled();
  world.socket.say({ event: 'noAuth', message: 'expired' });
  world.socket.say({ event: 'heartbeat', message: 'pong' });
  await assert.rejects(opening, { code: 'no_auth', message: 'expired' });
  assert.deepEqual([world.live, world.timers], [0, 0]);
});

test('leaving one room leaves the others and the connection', async () => {
  const { world, server, network, chat, join, heard, texts } = await open();
  const [tea, coffee] = [await join('tea'), await join('coffee')];
  const waiting = coffee.send('never answered');
  coffee.leave();
  coffee.leave();
  await assert.rejects(waiting, { code: 'closed' });
  await assert.rejects(coffee.send('too late'), { code: 'closed' });
  assert.deepEqual([coffee.state, coffee.reason.code, coffee.reason.closeCode, chat.rooms], ['closed', 'left', null, [tea]]);
  server.say('coffee', 'before the leave arrives');
  await network.pump();
  assert.deepEqual(events(world.socket, 'leave'), [{ event: 'leave', roomId: 'coffee' }]);
  assert.deepEqual([members(server, 'coffee'), members(server, 'tea')], [[], ['ann']]);
  server.say('tea', 'hi');
  await network.pump();
  assert.deepEqual([texts('coffee'), texts('tea'), heard.coffee.states], [[], ['hi'], ['online', 'closed: left']]);
  assert.deepEqual([chat.state, tea.state, world.sockets.length], ['online', 'online', 1]);
});

test('a chat that is closed leaves all rooms for good', async () => {
  const { world, server, chat, join, heard, states } = await open();
  const rooms = [await join('tea'), await join('coffee')];
  chat.close();
  chat.close();
  assert.deepEqual(rooms.map(({ state, reason }) => [state, reason.code]), [['closed', 'left'], ['closed', 'left']]);
  assert.deepEqual([chat.state, chat.reason.code, chat.rooms, states], ['closed', 'left', [], ['online', 'closed: left']]);
  assert.deepEqual([world.socket.closedWith, world.timers, heard.tea.states], [1000, 0, ['online', 'closed: left']]);
  assert.deepEqual([members(server, 'tea'), members(server, 'coffee')], [[], []]);
  await assert.rejects(chat.join('tea', { name: 'ann' }), { code: 'closed' });
});

test('a room can be joined once at a time', async () => {
  const { network, chat, join } = await open();
  const joining = chat.join(7, { name: 'ann' });
  await assert.rejects(chat.join('7', { name: 'ann' }), { code: 'already_joined', message: /"7" was joined already/ });
  await network.pump();
  const room = await joining;
  await assert.rejects(chat.join(7, { name: 'bob' }), { code: 'already_joined' });
  room.leave();
  const again = chat.join(7, { name: 'bob' });
  await network.pump();
  assert.deepEqual([(await again).name, (await again).state, room.state], ['bob', 'online', 'closed']);
  assert.equal((await join('8')).state, 'online');
});

test('options of a room that are missing or wrong are refused with a clear error', async () => {
  const { world, chat } = await open();
  const rejects = (joining, text) => assert.rejects(joining, { code: 'bad_options', message: `chat.join(room, { name }): ${text}` });
  await rejects(chat.join('tea'), '`name` is missing: it must be a string, the name in the room');
  await rejects(chat.join(undefined, { name: 'ann' }), '`room` is missing: it must be a string or a number, the id of the room');
  await rejects(chat.join(null, { name: 'ann' }), '`room` must be a string or a number, the id of the room');
  await rejects(chat.join('tea', 'ann'), 'the options must be an object');
  await rejects(chat.join('tea', { name: 'ann', history: -1 }), '`history` must be a number of messages');
  await rejects(chat.join('tea', { name: 'ann', on: { message: 7 } }), '`on` must be an object of functions');
  assert.deepEqual(world.socket.take(), []);
  for (const [options, text] of [[{ token: 7 }, '`token` must be a string or a function'], [{ on: { '*': 7 } }, '`on` must be an object of functions']]) {
    await assert.rejects(connect('/chat', options), { code: 'bad_options', message: `connect(url, options): ${text}` });
  }
});

test('a join is aborted, and so is a membership', async () => {
  const { world, server, network, chat, join } = await open();
  const giveUp = new AbortController();
  const room = await join('tea', { signal: giveUp.signal });
  const joining = chat.join('coffee', { name: 'ann', signal: giveUp.signal });
  giveUp.abort('enough');
  await assert.rejects(joining, { code: 'aborted', cause: 'enough' });
  await assert.rejects(chat.join('milk', { name: 'ann', signal: giveUp.signal }), { code: 'aborted' });
  assert.deepEqual([room.state, room.reason.code, chat.state], ['closed', 'aborted', 'online']);
  await network.pump();
  assert.deepEqual([members(server, 'tea'), members(server, 'coffee')], [[], []]);
  assert.deepEqual(events(world.socket, 'enter', 'leave').map(({ event, roomId }) => `${event} ${roomId}`), ['enter tea', 'enter coffee', 'leave tea', 'leave coffee']);
});

test('after a lost connection it resumes and enters all rooms at once', async () => {
  const { world, server, network, join, heard, texts, states, flap } = await open();
  const [tea, coffee] = [await join('tea'), await join('coffee')];
  network.cut();
  server.say('tea', 'missed');
  const sending = [coffee.send('kept'), tea.send('kept too')];
  await attempted(world);
  world.socket.accept();
  server.open(network.link);
  world.socket.say(network.link.out.shift());
  const at = (seq) => ({ epoch: 'E', seq });
  assert.deepEqual(network.link.in, [
    { event: 'resume', message: ['token 1'] },
    { event: 'enter', message: 'ann', roomId: 'tea', since: at(1) },
    { event: 'enter', message: 'ann', roomId: 'coffee', since: at(1) },
  ]);
  await network.pump();
  assert.deepEqual(await Promise.all(sending), [{ seq: 2 }, { seq: 3 }]);
  assert.deepEqual([texts('tea'), texts('coffee')], [['missed', 'kept too'], ['kept']]);
  assert.deepEqual(heard.tea.frames.map(({ info }) => info.replayed), [false, true, false]);
  assert.deepEqual(server.room('tea').log.map(({ event }) => event), ['enter', 'message', 'message'], 'nobody saw it go');
  assert.deepEqual([states, heard.tea.states], [['online', 'reconnecting: lost', 'online'], ['online', 'reconnecting: lost', 'online']]);
  await flap();
  assert.deepEqual([tea.state, coffee.state, server.sessions.size], ['online', 'online', 1]);
});

test('what is left while the connection is lost is left when the session is resumed', async () => {
  const { server, network, chat, join, flap, world } = await open();
  const [tea, coffee, milk] = [await join('tea'), await join('coffee'), await join('milk')];
  network.cut();
  coffee.leave();
  milk.leave();
  assert.deepEqual([coffee.state, chat.rooms, members(server, 'coffee')], ['closed', [tea], ['ann']]);
  const again = chat.join('milk', { name: 'ann' });
  await attempted(world);
  await network.pump();
  assert.deepEqual([members(server, 'tea'), members(server, 'coffee'), members(server, 'milk')], [['ann'], [], ['ann']]);
  assert.deepEqual(events(world.socket, 'leave'), [{ event: 'leave', roomId: 'coffee' }]);
  assert.equal((await again).state, 'online');
  tea.leave();
  (await again).leave();
  await flap();
  assert.deepEqual([chat.state, members(server, 'tea'), members(server, 'milk')], ['online', [], []]);
});

test('a join that is aborted before its enter is answered leaves no ghost', async () => {
  for (const isCut of [false, true]) {
    const { world, server, network, chat, heard, join } = await open();
    const giveUp = new AbortController();
    const joining = chat.join('tea', { name: 'ann', signal: giveUp.signal });
    if (isCut) network.cut(); // The enter still arrives, and its answer does not.
    giveUp.abort();
    await assert.rejects(joining, { code: 'aborted' });
    assert.deepEqual(members(server, 'tea'), isCut ? ['ann'] : []);
    if (isCut) await attempted(world);
    await network.pump();
    assert.deepEqual([members(server, 'tea'), chat.state], [[], 'online']);
    assert.deepEqual(server.room('tea').log.map(({ event }) => event), ['enter', 'out']);
    assert.equal((await join('tea')).state, 'online');
    assert.deepEqual(heard.tea.frames.map(({ seq }) => seq), [3]);
  }
});

test('a room that is left and joined at once is another membership', async () => {
  const { server, network, chat, join, heard } = await open();
  const before = await join('tea');
  server.say('tea', 'under way');
  before.leave();
  const joining = join('tea');
  await network.pump();
  const room = await joining;
  assert.deepEqual([room.state, before.state, chat.rooms], ['online', 'closed', [room]]);
  assert.deepEqual(heard.tea.frames.map(({ event, seq }) => [event, seq]), [['enter', 4]], 'nothing of the time before');
});

test('a handler may join the room again that was left', async () => {
  const { server, network, chat, join } = await open();
  const room = await join('tea');
  let again;
  room.on('state', () => { again = chat.join('tea', { name: 'ann' }); });
  room.leave();
  await network.pump();
  assert.deepEqual([(await again).state, members(server, 'tea')], ['online', ['ann']]);
});

test('one of two rooms is denied when the session is resumed', async () => {
  const { server, network, join, heard, texts, flap } = await open();
  const [tea, coffee] = [await join('tea'), await join('coffee')];
  server.remove = (id) => (id === 'coffee' ? 'denied' : undefined);
  await flap();
  assert.deepEqual([tea.state, coffee.state, coffee.reason.code, coffee.retryAt], ['online', 'outside', 'denied', null]);
  server.say('tea', 'hi');
  const sending = coffee.send('later');
  await network.pump();
  assert.deepEqual([texts('tea'), members(server, 'coffee')], [['hi'], []]);
  coffee.enter();
  await network.pump();
  assert.deepEqual([coffee.state, await sending], ['online', { seq: 4 }]);
  assert.deepEqual([heard.coffee.gaps, heard.coffee.frames.map(({ seq }) => seq)], [0, [1, 2, 3, 4]]);
});

test('a member is removed from one room', async () => {
  const ends = { denied: 'outside', name_taken: 'outside', internal: 'outside', room_closed: 'closed', token_expired: 'outside' };
  for (const [code, state] of Object.entries(ends)) {
    const { world, server, network, chat, join, texts } = await open();
    const [tea, coffee] = [await join('tea'), await join('coffee')];
    server.removeFrom('coffee', code);
    server.say('tea', 'hi');
    await network.pump();
    assert.deepEqual([coffee.state, coffee.reason.code, coffee.reason.message], [state, code, 'so it is']);
    assert.deepEqual([tea.state, texts('tea'), chat.state], ['online', ['hi'], 'online'], code);
    assert.equal(chat.rooms.length, state === 'closed' ? 1 : 2);
    for (let n = 0; n < 10; n += 1) {
      await world.pass(1_000);
      await network.pump();
    }
    assert.equal(coffee.state, code === 'internal' ? 'online' : state, code);
    assert.deepEqual([world.sockets.length, events(world.socket, 'leave')], [1, []]);
  }
});

test('the one room of a connection that is closed by the host closes the connection', async () => {
  const world = new World();
  const server = new Server();
  const network = new Network(world, server);
  const joining = connect('/chat', { name: 'ann', room: 'tea', global: world });
  await network.pump();
  const room = await joining;
  server.removeFrom('tea', 'room_closed', 'closed for tonight');
  await network.pump();
  assert.deepEqual([room.state, room.reason.code, room.reason.message, world.socket.closedWith], ['closed', 'room_closed', 'closed for tonight', 1000]);
  await world.pass(60_000);
  assert.deepEqual([world.sockets.length, world.timers], [1, 0]);
});

test('a token that expires removes the client from all rooms, and the next one brings it back', async () => {
  let asked = 0;
  const { world, server, network, chat, join, heard, states } = await open({ needsToken: true }, { token: async () => `T${asked += 1}` });
  const [tea, coffee] = [await join('tea'), await join('coffee')];
  for (const id of ['tea', 'coffee']) server.removeFrom(id, 'token_expired', 'the token has expired');
  network.link.isAuthenticated = false;
  network.link.out.push({ event: 'noAuth', message: 'authenticate' });
  await network.pump();
  assert.deepEqual([tea.state, coffee.state, chat.state, asked], ['online', 'online', 'online', 2]);
  assert.deepEqual(heard.tea.states, ['online', 'outside: token_expired', 'online']);
  assert.deepEqual(states, ['online', 'outside: no_auth', 'online']);
  assert.deepEqual([heard.tea.gaps, heard.tea.frames.map(({ event }) => event)], [0, ['enter', 'out', 'enter']]);
  assert.equal(world.sockets.length, 1);
});

test('after a restart of the server all rooms begin anew', async () => {
  const { server, network, join, heard, texts, world } = await open();
  const [tea, coffee] = [await join('tea'), await join('coffee')];
  tea.send('lost with the server').catch(() => {});
  await network.pump();
  network.cut();
  const sending = [tea.send('for the next one'), coffee.send('this one too')];
  server.restart('F');
  server.say('coffee', 'first of the new epoch');
  await attempted(world);
  await network.pump();
  assert.deepEqual(await Promise.all(sending), [{ seq: 2 }, { seq: 3 }]);
  assert.deepEqual([tea.position, coffee.position], [{ epoch: 'F', seq: 2 }, { epoch: 'F', seq: 3 }]);
  assert.deepEqual([heard.tea.gaps, heard.coffee.gaps], [1, 1]);
  assert.deepEqual(texts('coffee'), ['first of the new epoch', 'this one too']);
});

test('a client that is in too many rooms is refused one more', async () => {
  const { server, join, chat, flap } = await open({ rooms: 2 });
  const [tea, coffee] = [await join('tea'), await join('coffee')];
  await assert.rejects(join('milk'), { code: 'too_many_memberships' });
  assert.deepEqual([chat.rooms, tea.state, coffee.state], [[tea, coffee], 'online', 'online']);
  coffee.leave();
  const milk = await join('milk');
  assert.equal(milk.state, 'online');
  await flap();
  assert.deepEqual([tea.state, milk.state, members(server, 'coffee')], ['online', 'online', []]);
});

test('a room is joined while the connection is lost', async () => {
  const { world, network, chat, join } = await open();
  await join('tea');
  network.cut();
  const joining = chat.join('coffee', { name: 'ann' });
  assert.equal(chat.state, 'reconnecting');
  await attempted(world);
  await network.pump();
  assert.deepEqual([(await joining).state, chat.rooms.map(({ id }) => id)], ['online', ['tea', 'coffee']]);
});

test('a chat without rooms that the server closes is idle until a room is joined', async () => {
  const { world, network, chat, join, states } = await open();
  world.socket.end(4002, 'no room was entered in time');
  assert.deepEqual([chat.state, chat.reason.code, chat.reason.closeCode, chat.retryAt], ['idle', 'lost', 4002, null]);
  world.tell('online');
  world.tell('visibilitychange', world.document);
  await world.pass(60_000);
  assert.deepEqual([world.sockets.length, world.timers], [1, 0]);
  const joining = [join('tea'), join('coffee')];
  await network.pump();
  assert.deepEqual((await Promise.all(joining)).map(({ state }) => state), ['online', 'online']);
  assert.deepEqual([chat.state, world.sockets.length], ['online', 2]);
  assert.deepEqual(states, ['online', 'idle: lost', 'online']);
});

test('a chat that joins a room while it is idle tries again if it is not connected', async () => {
  const { world, network, chat, join } = await open();
  world.socket.end(4002, 'no room was entered in time');
  chat.join('coffee', { name: 'ann' }).catch(() => {});
  world.socket.end();
  assert.equal(chat.state, 'reconnecting');
  await attempted(world);
  await network.pump();
  assert.equal((await join('tea')).state, 'online');
  assert.equal(chat.rooms.length, 2);
});

test('a chat is closed while it is idle', async () => {
  const { world, chat, states } = await open();
  world.socket.end(4002, 'no room was entered in time');
  chat.close();
  assert.deepEqual([states, world.timers], [['online', 'idle: lost', 'closed: left'], 0]);
});

test('enters that are refused for the moment are tried again for each room', async () => {
  const { world, server, network, chat } = await open();
  let refusals = 0;
  server.refuse = (id) => {
    if (id === 'tea' && refusals < 2) return ['rate_limited', { retryAfter: [300, 2_000][refusals++] }];
    return undefined;
  };
  const [tea, coffee] = ['tea', 'coffee'].map((id) => chat.join(id, { name: 'ann' }));
  await network.pump();
  assert.equal((await coffee).state, 'online');
  await world.pass(449);
  assert.equal(events(world.socket, 'enter').length, 2);
  await world.pass(1);
  await network.pump();
  assert.equal(events(world.socket, 'enter').length, 3);
  await world.pass(3_000);
  await network.pump();
  assert.equal((await tea).state, 'online');
});

test('many enters that exceed a rate are tried one by one', async () => {
  const { world, server, network, chat } = await open();
  let free = 20;
  let refused = 0;
  server.refuse = () => {
    if (free > 0) {
      free -= 1;
      return undefined;
    }
    refused += 1;
    return ['rate_limited', { retryAfter: 3_000 }];
  };
  const joining = Array.from({ length: 64 }, (_, n) => chat.join(n, { name: 'ann' }));
  await network.pump();
  assert.deepEqual([refused, chat.rooms.length], [44, 20]);
  for (let second = 1; chat.rooms.length < 64; second += 1) {
    assert.ok(second < 400, 'it never comes to an end');
    if (second % 3 === 0) free = Math.min(20, free + 1);
    await world.pass(1_000);
    await network.pump();
  }
  await Promise.all(joining);
  assert.ok(refused < 44 + 44 * 2, `${refused} refusals; the server closes clients that continue regardless`);
});

test('an enter that waits because the server has asked for it does not end the connection', async () => {
  const { world, server, network, chat } = await open();
  const waits = [300, 1_000, 40_000];
  server.refuse = () => (waits.length > 0 ? ['rate_limited', { retryAfter: waits.shift() }] : undefined);
  const joining = ['tea', 'coffee'].map((id) => chat.join(id, { name: 'ann' }));
  await network.pump();
  const [{ socket }, rooms] = [world, []];
  for (const room of joining) room.then(({ id }) => rooms.push(id));
  for (let second = 1; second <= 80; second += 1) {
    await beats(world, 1);
    await network.pump();
    if (second > 2 && second < 40) assert.deepEqual([waits, rooms], [[], []]);
  }
  assert.deepEqual([rooms.sort(), world.socket === socket, chat.state], [['coffee', 'tea'], true, 'online']);
});

test('rooms that give up do not give up the others', async () => {
  const { world, server, network, chat, join } = await open({}, { maxAttempts: 2 });
  const tea = await join('tea');
  server.refuse = () => 'internal';
  const joining = chat.join('coffee', { name: 'ann' });
  joining.catch(() => {});
  await network.pump();
  await world.pass(1_000);
  await network.pump();
  await assert.rejects(joining, { code: 'gave_up', message: 'gave up after 2 attempts: no' });
  assert.deepEqual([tea.state, chat.state, chat.rooms], ['online', 'online', [tea]]);
});

test('a message that is put off in one room does not hold up the others, and is not overtaken', async () => {
  const { world, network, join } = await open({ rates: undefined });
  const [tea, coffee] = [await join('tea'), await join('coffee')];
  world.socket.take();
  tea.send('t1').catch(() => {});
  const [{ cid }] = world.socket.take();
  network.link.in.length = 0;
  world.socket.say({ event: 'error', code: 'unavailable', message: 'later', cid, retryAfter: 5_000 });
  tea.send('t2').catch(() => {});
  const sending = ['c1', 'c2'].map((text) => coffee.send(text));
  assert.deepEqual(world.socket.take().map(({ message }) => message), ['c1', 'c2']);
  await network.pump();
  await Promise.all(sending);
  await world.pass(4_999);
  assert.deepEqual(world.socket.take(), []);
  await world.pass(1);
  assert.deepEqual(world.socket.take().map(({ message }) => message), ['t1'], 'first and alone');
  await network.pump();
  assert.deepEqual(world.socket.take().map(({ message }) => message), ['t2']);
});

test('a message that exceeds a rate lets other rooms go on, with less', async () => {
  const { world, network, join } = await open({ rates: { messages: 10, bytes: null, burst: 2 } });
  const [tea, coffee] = [await join('tea'), await join('coffee')];
  world.socket.take();
  tea.send('t1').catch(() => {});
  const [{ cid }] = world.socket.take();
  network.link.in.length = 0;
  world.socket.say({ event: 'error', code: 'rate_limited', message: 'later', cid, retryAfter: 5_000 });
  for (const text of ['c1', 'c2', 'c3']) coffee.send(text).catch(() => {});
  tea.send('t2').catch(() => {});
  assert.deepEqual(world.socket.take(), [], 'the bucket is empty');
  await world.pass(100);
  assert.deepEqual(world.socket.take().map(({ message }) => message), ['c1']);
  await world.pass(1_000);
  assert.deepEqual(world.socket.take(), [], 'one at a time');
  for (let n = 0; n < 40; n += 1) {
    await network.pump();
    await world.pass(100);
  }
  assert.deepEqual(world.socket.take().map(({ message }) => message), ['c2', 'c3', 't1', 't2']);
});

test('the rates are those of the connection: messages of all rooms go in the order of the calls', async () => {
  const { world, network, join } = await open({ rates: { messages: 10, bytes: null, burst: 2 } });
  const rooms = [await join('tea'), await join('coffee'), await join('milk')];
  await world.pass(2_000);
  world.socket.take();
  const sending = Array.from({ length: 30 }, (_, n) => rooms[(n * 7) % 3].send(n));
  const sent = [];
  const begin = world.now;
  while (sent.length < 30) {
    await network.pump();
    sent.push(...world.socket.take().filter(({ event }) => event === 'message').map(({ message }) => message));
    assert.ok(sent.length <= 10 + (world.now - begin) / 100, `${sent.length} after ${world.now - begin} ms`);
    await world.pass(50);
  }
  assert.deepEqual(sent, Array.from({ length: 30 }, (_, n) => n));
  await network.pump();
  await Promise.all(sending);
});

test('enters keep to the rates as well', async () => {
  const { world, network, chat } = await open({ rates: { messages: 10, bytes: null, burst: 2 } });
  const joining = Array.from({ length: 40 }, (_, n) => chat.join(n, { name: 'ann' }));
  await network.pump();
  assert.equal(chat.rooms.length, 20, 'at first the whole burst');
  await world.pass(1_000);
  await network.pump();
  assert.equal(chat.rooms.length, 30);
  await world.pass(1_000);
  await network.pump();
  await Promise.all(joining);
});

test('a request that the server does not read is sent again', async () => {
  const { world, network, chat, join } = await open();
  const LATER = { event: 'error', code: 'rate_limited', message: 'too fast', retryAfter: 10 };
  const [tea] = [await join('tea'), await join('coffee')];
  tea.leave();
  network.link.in.length = 0;
  world.socket.say(LATER);
  assert.deepEqual(events(world.socket, 'leave').length, 2);
  network.cut(network.link, 0);
  await attempted(world);
  world.socket.accept();
  network.server.open(network.link);
  world.socket.say(network.link.out.shift());
  network.link.in.length = 0;
  world.socket.say(LATER); // The answers to `resume` and the enter.
  world.socket.say({ ...LATER, roomId: 'coffee' });
  await world.pass(5_000);
  await network.pump();
  assert.deepEqual(events(world.socket, 'resume', 'enter', 'leave').map(({ event }) => event), ['resume', 'enter', 'resume', 'enter', 'leave']);
  assert.deepEqual([members(network.server, 'tea'), members(network.server, 'coffee'), chat.rooms.map(({ state }) => state)], [[], ['ann'], ['online']]);
});

test('no more messages of all rooms are in flight than the server remembers', async () => {
  const { world, network, join } = await open({ cids: 3, rates: NO_RATES });
  const [tea, coffee] = [await join('tea'), await join('coffee')];
  world.socket.take();
  const sending = [1, 2, 3, 4].flatMap((n) => [tea.send(`t${n}`), coffee.send(`c${n}`)]);
  assert.deepEqual(world.socket.take().map(({ message }) => message), ['t1', 'c1', 't2']);
  await network.pump();
  await Promise.all(sending);
});

test('a message whose id the server may have forgotten waits for the replay', async () => {
  for (const others of [0, 5]) {
    const { world, server, network, join } = await open({ cids: 3, rates: NO_RATES });
    const [tea, coffee] = [await join('tea'), await join('coffee')];
    const sending = tea.send('arrives, but is not acknowledged');
    network.cut();
    await attempted(world);
    world.socket.accept();
    server.open(network.link);
    world.socket.say(network.link.out.shift());
    network.link.in.splice(1, 1);
    world.socket.say({ event: 'error', code: 'rate_limited', message: 'later', roomId: 'tea', retryAfter: 1_000 });
    await network.pump();
    assert.deepEqual([tea.state, coffee.state], ['outside', 'online']);
    for (let n = 0; n < others; n += 1) {
      coffee.send(n);
      await network.pump();
    }
    world.socket.take();
    await world.pass(5_000);
    await network.pump();
    assert.deepEqual(await sending, { seq: 2 });
    assert.equal(server.room('tea').log.length, 2, 'it is in the room once');
    assert.equal(events(world.socket, 'message').length, others ? 0 : 1, 'a message that the server knows does not wait');
  }
});

test('earlier messages come first, and change no position', async () => {
  const { server, network, chat, join, heard, texts } = await open();
  for (let n = 1; n <= 5; n += 1) server.say('tea', n);
  const tea = await join('tea', { history: 3 });
  assert.deepEqual([texts('tea'), tea.position, heard.tea.gaps], [[3, 4, 5], { epoch: 'E', seq: 6 }, 0]);
  assert.deepEqual(heard.tea.frames.map(({ info: { own, replayed, history } }) => [own, replayed, history]), [
    ...Array(3).fill([false, false, true]), [true, false, false],
  ]);
  const sending = tea.send('mine');
  await network.pump();
  assert.deepEqual(await sending, { seq: 7 });
  network.cut();
  server.say('tea', 'missed');
  await network.world.pass(1_000);
  await network.pump();
  assert.deepEqual(texts('tea'), [3, 4, 5, 'mine', 'missed'], 'once, at the first enter');

  tea.leave();
  const again = await join('tea', { history: 2 });
  assert.deepEqual(heard.tea.frames.map(({ message, info }) => [message, info.own, info.history]), [
    ['mine', true, true], ['missed', false, true], ['ann', true, false],
  ]);
  assert.deepEqual([again.position.seq, chat.rooms], [10, [again]]);
});

test('the form for one room has a history too', async () => {
  const world = new World();
  const server = new Server();
  const network = new Network(world, server);
  for (const text of ['a', 'b']) server.say('tea', text);
  const seen = [];
  const joining = connect('/chat', { name: 'ann', room: 'tea', history: 9, global: world, on: { message: ({ message }, { history }) => seen.push([message, history]) } });
  await network.pump();
  assert.equal((await joining).position.seq, 3);
  assert.deepEqual(seen, [['a', true], ['b', true]]);
  assert.deepEqual(events(world.socket, 'enter'), [{ event: 'enter', message: 'ann', roomId: 'tea', last: 9 }]);
});

test('a history that comes again acknowledges nothing, and is not told again', async () => {
  const { world, network, join, heard } = await open();
  const tea = await join('tea');
  heard.tea.frames.length = 0;
  const sending = tea.send('a');
  const { cid } = world.socket.sent.at(-1);
  network.link.in.length = 0;
  world.socket.say({ event: 'entered', roomId: 'tea', name: 'ann', member: '1', epoch: 'E', seq: 1, num: 1, resumed: true, recovered: true, replayed: 0, history: 1 });
  world.socket.say({ event: 'message', message: 'a', cid, roomId: 'tea', name: 'ann', num: 1, member: '1', seq: 1 });
  let isDone = false;
  sending.then(() => { isDone = true; });
  await settled();
  assert.deepEqual([isDone, heard.tea.frames, tea.position.seq], [false, [], 1]);
});

test('what is of no room that the client is in is ignored', async () => {
  const { world, network, chat, join, heard } = await open();
  const wide = [];
  chat.on('*', (frame) => wide.push(frame.event));
  chat.on('error', ({ code }) => wide.push(code));
  const tea = await join('tea');
  heard.tea.frames.length = 0;
  for (const roomId of ['coffee', '', undefined, 7, 'toString']) {
    world.socket.say({ event: 'message', message: 'x', roomId, name: 'bob', num: 2, member: 'b', seq: 9 });
    world.socket.say({ event: 'lagged', roomId, missed: 3 });
    world.socket.say({ event: 'left', roomId, code: 'denied', message: 'no' });
  }
  assert.deepEqual([heard.tea.frames, tea.state, tea.position.seq, wide], [[], 'online', 1, []]);
  world.socket.say({ event: 'banner', message: 'of the host' });
  world.socket.say({ event: 'error', code: 'internal', message: 'oh' });
  assert.deepEqual([wide, heard.tea.frames], [['banner', 'internal'], []]);
  world.socket.say({ event: 'entered', roomId: 'coffee', name: 'ann', member: '1', epoch: 'E', seq: 0, num: 1, resumed: false, recovered: false, replayed: 0 });
  assert.deepEqual(world.socket.sent.at(-1), { event: 'leave', roomId: 'coffee' });
  await network.pump();
});

test('frames that are missing in one room make the client come back to all', async () => {
  const { world, network, join, heard } = await open();
  const [tea, coffee] = [await join('tea'), await join('coffee')];
  world.socket.say({ event: 'lagged', roomId: 'tea', missed: 2 });
  assert.deepEqual([tea.position.seq, coffee.position.seq, heard.tea.gaps, heard.coffee.gaps], [3, 1, 1, 0]);
  world.socket.say({ event: 'message', message: 'x', roomId: 'coffee', name: 'bob', num: 2, member: 'b', seq: 3 });
  assert.deepEqual([tea.state, coffee.state, coffee.reason.code, world.socket.closedWith], ['reconnecting', 'reconnecting', 'gap', 4000]);
  await network.pump();
});
