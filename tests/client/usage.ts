// Checked by tsc, never run: every part of the client as its types promise it, and what they forbid.
import { ChatError, connect, mayReturn, messageTime } from '../../src/browser/chat-rooms.js';
import type {
  Chat, ChatOptions, DirectFrame, Frame, FrameInfo, Handlers, Json, Member, OnlyRoom, Position, Presence, Room, State, StateEvent,
} from '../../src/browser/chat-rooms.js';

export async function talk(giveUp: AbortSignal): Promise<void> {
  const room: Room = await connect('/chat', {
    name: 'ann',
    room: 42,
    history: 20,
    token: async () => (await fetch('/token')).text(),
    signal: giveUp,
    on: {
      state: ({ state, reason, retryAt }: StateEvent) => show(state, reason?.message, retryAt),
      message: (frame, { own }) => show(frame.member, own),
      '*': (frame) => show(frame.event),
      typing: (frame: Frame, { replayed }) => show(frame.name, replayed),
    },
    protocols: ['bearer.TOKEN'],
    maxQueue: 10,
    maxAttempts: 5,
    attemptTimeout: 5_000,
    backoff: { cap: 60_000 },
  });
  const stop: () => void = room.on('message', (frame, { own, replayed, history }) => {
    const mine: boolean = own && !replayed && !history;
    show(frame.name ?? 'the host', frame.message, mine);
  });
  room.on('enter', (frame) => show(frame.num));
  room.on('gap', ({ before, after }) => show(before.seq, after.epoch));
  room.on('overflow', ({ event, message }) => show(event, message));
  room.on('error', (error) => show(error.code, error.closeCode));
  room.on('typing', (frame) => show(frame['since']));
  room.on('*', (frame, info: FrameInfo) => show(frame.event, info.own));

  const { seq, id } = await room.send({ text: 'hi', tags: ['a', null] }, { event: 'note', ref: 7 });
  const isSent: boolean = room.sendTransient('typing', true) || room.sendTransient('pointer');
  show(isSent);
  const position: Position | null = room.position;
  const state: State = room.state;
  show(id !== undefined && messageTime(id).toISOString());
  show(seq, position?.seq, state, room.online, room.name, room.member, room.reason?.code, room.retryAt);
  if (state === 'outside') room.enter();
  stop();
  room.leave();

  const handlers: Handlers = { gap: ({ after }) => show(after.seq) };
  await connect('/chat', { name: 'ann', on: handlers });

  // @ts-expect-error: an event of the client has its own type
  await connect('/chat', { name: 'ann', on: { state: (state: string) => show(state) } });
  // @ts-expect-error: it has to enter under a name
  await connect('/chat', { room: 'tea' });
  // @ts-expect-error: a room needs a name
  await connect('/chat', { history: 20 });
  await connect('/chat', { name: 'ann', token: localStorage.getItem('token') });
  // @ts-expect-error: a misspelt option
  await connect('/chat', { name: 'ann', rooms: 'tea' });
  // @ts-expect-error: JSON has no functions
  await room.send(() => 1);
  // @ts-expect-error: a transient frame has an event
  room.sendTransient();
  // @ts-expect-error: the state is not the application's to set
  room.state = 'online';
  // @ts-expect-error: the error is no frame
  room.on('error', (error) => show(error.name.event));
}

export async function meet(): Promise<void> {
  const room: OnlyRoom = await connect('/chat', {
    name: 'ann',
    state: { away: false },
    roster: 50,
    on: {
      presence: ({ members, complete, self }) => show(members?.length, complete, self?.state),
      direct: (frame) => show(frame.from?.user, frame.from?.name, frame.message, frame.direct),
      directGap: ({ missed }) => show(missed),
    },
  });
  room.on('presence', (presence: Presence) => show(presence.mode, presence.num, presence.users));
  room.on('direct', (frame: DirectFrame, { own }) => show(frame.from, own));
  const members: readonly Member[] = room.presence.members ?? [];
  for (const { id, name, user, info, state, self } of members) show(id, name, user, info, state, self);
  const state: Json | undefined = room.presence.self?.state;
  room.setState(state ?? null);
  const reached: number = await room.sendTo('bob', 'hi', { ref: 7 });
  show(reached, room.readOnly, room.hidden);

  const chat: Chat = await connect('/chat', { on: { direct: ({ message }) => show(message), directGap: ({ missed }) => show(missed) } });
  await chat.sendTo('bob', { text: 'hi' });
  chat.authenticate();
  const tea: Room = await chat.join('tea', { name: 'ann', state: 'here', roster: 0 });
  // @ts-expect-error: direct messages concern no room
  await tea.sendTo('bob', 'hi');
  // @ts-expect-error: a state is set with a method
  room.presence.self.state = 1;
  // @ts-expect-error: JSON has no functions
  room.setState(() => 1);
  // @ts-expect-error: null removes a state
  room.setState();
}

export async function talkInRooms(giveUp: AbortSignal): Promise<void> {
  const options: ChatOptions = { token: 'T', on: { state: ({ state }) => show(state), banner: (frame) => show(frame.message) } };
  const chat: Chat = await connect(new URL('wss://chat.test'), options);
  const tea: Room = await chat.join('tea', { name: 'ann', history: 50, signal: giveUp, on: { message: (frame) => show(frame.roomId) } });
  const numbered: Room = await chat.join(42, { name: 'ann' });
  const stop: () => void = chat.on('*', (frame) => show(frame.event));
  chat.on('error', (error) => show(error.code));
  for (const { id, state } of chat.rooms) show(id, state);
  show(tea.id, numbered.id, chat.state, chat.reason?.code, chat.retryAt);
  stop();
  tea.leave();
  chat.close();
  const other: Chat = await connect('/chat');
  // @ts-expect-error: a chat has no messages of its own
  await other.send('hi');
  // @ts-expect-error: it has to enter under a name
  await other.join('tea');
}

export function explain(error: unknown): string {
  if (!(error instanceof ChatError)) return String(error);
  const back: boolean = error.closeCode !== null && mayReturn(error.closeCode);
  return `${error.code}: ${error.message}${back ? '' : '!'}`;
}

declare function show(...values: unknown[]): void;
