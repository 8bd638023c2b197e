// The options that the application gives, checked.

import { ChatError } from './errors.js';

const isText = (value) => typeof value === 'string';
const isHandler = (value) => !value || typeof value === 'function';
const isPositive = (value) => typeof value === 'number' && value > 0;
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

/** What each option has to be. */
const OPTIONS = {
  name: ['a string, the name in the room', isText],
  room: ['a string or a number, the id of the room', (value) => isText(value) || Number.isFinite(value)],
  token: ['a string or a function', (value) => value === null || isText(value) || typeof value === 'function'],
  signal: ['an AbortSignal', (value) => typeof value?.aborted === 'boolean'],
  on: ['an object of functions', (value) => isObject(value) && Object.values(value).every(isHandler)],
  protocols: ['an array of strings', (value) => Array.isArray(value) && value.every(isText)],
  maxQueue: ['a positive number', isPositive],
  maxAttempts: ['a positive number', isPositive],
  attemptTimeout: ['a positive number of milliseconds', isPositive],
  backoff: ['an object with positive numbers, `base` and `cap`', isBackoff],
  global: ['an object', isObject],
};

/** Returns the options of `connect`, with a default for each that is missing. */
export function readOptions(given = {}) {
  if (!isObject(given)) throw badOption('the options must be an object');
  for (const [option, [wanted, isValid]] of Object.entries(OPTIONS)) {
    const value = given[option];
    const isMissing = value === undefined;
    if (isMissing && option === 'name') throw badOption(`\`name\` is missing: it must be ${wanted}`);
    if (!isMissing && !isValid(value)) throw badOption(`\`${option}\` must be ${wanted}`);
  }
  const { global: env = globalThis, on = {}, signal, name, room, token, protocols = [] } = given;
  const { maxQueue = 128, attemptTimeout = 15_000, maxAttempts = Infinity, backoff } = given;
  return { env, on, signal, name, room, token, protocols, maxQueue, attemptTimeout, maxAttempts, backoff };
}

/** The address as a WebSocket's; `base` is that of the page. */
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

/** Returns the event of a message, and the keys that are sent along. */
export function readSendOptions(given = {}) {
  if (!isObject(given)) throw new ChatError('bad_options', 'send(message, { event }): the options must be an object');
  const { event = 'message', ...extra } = given;
  if (!isText(event)) throw new ChatError('bad_options', 'send(message, { event }): `event` must be a string');
  return { event, extra };
}

function isBackoff(value) {
  return isObject(value) && [value.base, value.cap].every((time) => time === undefined || isPositive(time));
}

function badOption(text) {
  return new ChatError('bad_options', `connect(url, { name, room }): ${text}`);
}
