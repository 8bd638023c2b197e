// The options that the application gives, checked.

import { ChatError } from './errors.js';
import { readState } from './own-state.js';

const isText = (value) => typeof value === 'string';
const isHandler = (value) => !value || typeof value === 'function';
const isPositive = (value) => typeof value === 'number' && value > 0;
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

const ROOM_ID = ['a string or a number, the id of the room', (value) => isText(value) || Number.isFinite(value)];
const SIGNAL = ['an AbortSignal', (value) => typeof value?.aborted === 'boolean'];
const HANDLERS = ['an object of functions', (value) => isObject(value) && Object.values(value).every(isHandler)];

/** What each option of a room has to be. */
const ROOM_OPTIONS = {
  name: ['a string, the name in the room', isText],
  history: ['a number of messages', (value) => Number.isInteger(value) && value >= 0],
  roster: ['a number of members', (value) => Number.isInteger(value) && value >= 0],
  signal: SIGNAL,
  on: HANDLERS,
};

/** Options that only a call which enters a room may have. */
const ONE_ROOM_OPTIONS = ['name', 'room', 'history', 'state', 'roster'];

/** What each option of a connection has to be. */
const CHAT_OPTIONS = {
  token: ['a string or a function', (value) => value === null || isText(value) || typeof value === 'function'],
  signal: SIGNAL,
  on: HANDLERS,
  protocols: ['an array of strings', (value) => Array.isArray(value) && value.every(isText)],
  maxQueue: ['a positive number', isPositive],
  maxAttempts: ['a positive number', isPositive],
  attemptTimeout: ['a positive number of milliseconds', isPositive],
  backoff: ['an object with positive numbers, `base` and `cap`', isBackoff],
  global: ['an object', isObject],
};

/** Returns the options of `connect`, with defaults: those of the connection in `chat`, and those of the room in `room`,
 * which is null if `connect` enters no room. */
export function readConnectOptions(given = {}) {
  const isForOneRoom = !isObject(given) || ONE_ROOM_OPTIONS.some((option) => given[option] !== undefined);
  const call = isForOneRoom ? 'connect(url, { name, room })' : 'connect(url, options)';
  if (!isForOneRoom) return { chat: readChat(call, given), room: null };
  check(call, given, { ...ROOM_OPTIONS, room: ROOM_ID, ...CHAT_OPTIONS }, ['name']);
  const { room = '', ...rest } = given;
  // The handlers are those of the room, and the signal is that of the connection, which ends with the room.
  return { chat: readChat(call, { ...rest, on: {} }), room: readRoom(call, room, { ...rest, signal: undefined }) };
}

/** Returns the options of `join`, with defaults. */
export function readJoinOptions(room, given) {
  const call = 'chat.join(room, { name })';
  check(call, { room }, { room: ROOM_ID }, ['room']);
  check(call, given ?? {}, ROOM_OPTIONS, ['name']);
  return readRoom(call, room, given);
}

function readChat(call, given) {
  check(call, given, CHAT_OPTIONS);
  const { global: env = globalThis, on = {}, signal, token, protocols = [] } = given;
  if (typeof env.WebSocket !== 'function') {
    const remedy = "in Node, `globalThis.WebSocket = (await import('ws')).WebSocket` adds one";
    throw new ChatError('no_websocket', `there is no global WebSocket; ${remedy}`);
  }
  const { maxQueue = 128, attemptTimeout = 15_000, maxAttempts = Infinity, backoff } = given;
  return { env, on, signal, token, protocols, maxQueue, attemptTimeout, maxAttempts, backoff };
}

function readRoom(call, room, { name, history = 0, state, roster = 1_000, on = {}, signal }) {
  const json = state === undefined ? undefined : readState(state, call);
  return { id: String(room), name, history, state: json, roster, on, signal };
}

function check(call, given, options, required = []) {
  if (!isObject(given)) throw badOption(call, 'the options must be an object');
  for (const [option, [wanted, isValid]] of Object.entries(options)) {
    const value = given[option];
    const isMissing = value === undefined;
    if (isMissing && required.includes(option)) throw badOption(call, `\`${option}\` is missing: it must be ${wanted}`);
    if (!isMissing && !isValid(value)) throw badOption(call, `\`${option}\` must be ${wanted}`);
  }
}

/** Returns the address as a WebSocket URL. `base` is the address of the page. */
export function readUrl(given, base) {
  if (!isText(given) && !isText(given?.href)) throw new ChatError('bad_url', 'the URL must be a string or a URL');
  let url;
  try {
    url = new URL(given, base);
  } catch (cause) {
    throw new ChatError('bad_url', `"${given}" is not a URL`, { cause });
  }
  url.protocol = url.protocol.replace(/^http/, 'ws');
  url.hash = '';
  if (!/^wss?:$/.test(url.protocol)) throw new ChatError('bad_url', `"${given}" is not a WebSocket URL`);
  return url.href;
}

/** Returns the event of a message, and the additional keys. */
export function readSendOptions(given = {}) {
  if (!isObject(given)) throw new ChatError('bad_options', 'send(message, { event }): the options must be an object');
  const { event = 'message', ...extra } = given;
  if (!isText(event)) throw new ChatError('bad_options', 'send(message, { event }): `event` must be a string');
  return { event, extra };
}

/** Checks a request for messages. */
export function readHistoryOptions(given = {}) {
  const call = 'history({ before, after, limit })';
  if (!isObject(given)) throw badOption(call, 'the options must be an object');
  const { before, after, limit } = given;
  for (const [option, id] of Object.entries({ before, after })) {
    if (id !== undefined && !isId(id)) throw badOption(call, `\`${option}\` must be the id of a message`);
  }
  if (before !== undefined && after !== undefined) throw badOption(call, 'give `before` or `after`, not both');
  if (limit !== undefined && !(Number.isSafeInteger(limit) && limit > 0)) {
    throw badOption(call, '`limit` must be a number of messages');
  }
  return { before, after, limit };
}

/** Checks a direct message, and returns its keys. */
export function readDirect(user, extra = {}) {
  const call = 'sendTo(user, message, extra)';
  if (!isText(user)) throw badOption(call, '`user` must be a string, the id of the user');
  if (!isObject(extra)) throw badOption(call, '`extra` must be an object');
  return { user, extra };
}

/** Returns the event of a transient frame. */
export function readEvent(event) {
  if (!isText(event)) throw badOption('sendTransient(event, message)', '`event` must be a string');
  return event;
}

function isId(value) { return Number.isSafeInteger(value) && value >= 0; }

function isBackoff(value) {
  return isObject(value) && [value.base, value.cap].every((time) => time === undefined || isPositive(time));
}

function badOption(call, text) {
  return new ChatError('bad_options', `${call}: ${text}`);
}
