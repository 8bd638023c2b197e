// Checked by tsc, never run: every part of the client as its types promise it, and what they forbid.
import { ChatError, connect, mayReturn } from '../../src/browser/chat-rooms.js';
import type { Frame, FrameInfo, Handlers, Position, Room, State, StateEvent } from '../../src/browser/chat-rooms.js';

export async function talk(giveUp: AbortSignal): Promise<void> {
  const room: Room = await connect('/chat', {
    name: 'ann',
    room: 42,
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
  const stop: () => void = room.on('message', (frame, { own, replayed }) => {
    const mine: boolean = own && !replayed;
    show(frame.name ?? 'the host', frame.message, mine);
  });
  room.on('enter', (frame) => show(frame.num));
  room.on('gap', ({ before, after }) => show(before.seq, after.epoch));
  room.on('overflow', ({ event, message }) => show(event, message));
  room.on('error', (error) => show(error.code, error.closeCode));
  room.on('typing', (frame) => show(frame['since']));
  room.on('*', (frame, info: FrameInfo) => show(frame.event, info.own));

  const { seq } = await room.send({ text: 'hi', tags: ['a', null] }, { event: 'note', ref: 7 });
  const position: Position | null = room.position;
  const state: State = room.state;
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
  // @ts-expect-error: it has to have options
  await connect('/chat');
  await connect('/chat', { name: 'ann', token: localStorage.getItem('token') });
  // @ts-expect-error: a misspelt option
  await connect('/chat', { name: 'ann', rooms: 'tea' });
  // @ts-expect-error: JSON has no functions
  await room.send(() => 1);
  // @ts-expect-error: the state is not the application's to set
  room.state = 'online';
  // @ts-expect-error: the error is no frame
  room.on('error', (error) => show(error.name.event));
}

export function explain(error: unknown): string {
  if (!(error instanceof ChatError)) return String(error);
  const back: boolean = error.closeCode !== null && mayReturn(error.closeCode);
  return `${error.code}: ${error.message}${back ? '' : '!'}`;
}

declare function show(...values: unknown[]): void;
