// The state of the client's own member.

import { ChatError } from './errors.js';
import { byteLength, wellFormed } from './json.js';
import { Timer } from './timer.js';

/** The maximum number of bytes of a state. */
const MAX_STATE_BYTES = 1024;
/** The minimum number of milliseconds between two states. */
const STATE_INTERVAL = 100;

/** Returns a state as JSON. Throws if the server would not accept it. */
export function readState(value, call) {
  const json = JSON.stringify(value ?? null);
  if (json === undefined) throw new ChatError('bad_options', `${call}: the state must be a JSON value`);
  const text = wellFormed(json);
  if (byteLength(text) > MAX_STATE_BYTES) {
    throw new ChatError('too_big', `${call}: the state may have at most ${MAX_STATE_BYTES} bytes of JSON`);
  }
  return text;
}

/** Keeps the state that the application has set, and makes sure that the server has it. */
export class OwnState {
  #env;
  #room;
  #timer;
  /** The state that the application wants, as JSON; undefined if it has set none. */
  #wanted;
  /** The state in the last enter. */
  #entering;
  /** The state that the server has; undefined if that is not known. */
  #known;
  /** `send(text)` sends a frame if `budget` allows; null while the client is not in the room. */
  #connection = null;
  #notBefore = 0;
  /** Whether the server has refused the state, so that the previous one is still valid. */
  #isRefused = false;

  /** `room` is the room's id, and `wanted` is the first state. */
  constructor(env, room, wanted) {
    this.#env = env;
    this.#room = room;
    this.#timer = new Timer(env);
    this.#wanted = wanted;
  }

  /** The keys for an enter. The server ignores them if the client is in the room already. */
  forEnter() {
    this.#entering = this.#wanted ?? 'null';
    return this.#entering === 'null' ? {} : { state: JSON.parse(this.#entering) };
  }

  set(text) {
    this.#wanted = text;
    this.#isRefused = false;
    this.#flush();
  }

  /** The state that the application should see if the server has this one. */
  shown(state) {
    if (this.#isRefused && state !== undefined) {
      [this.#wanted, this.#known, this.#isRefused] = [JSON.stringify(state), JSON.stringify(state), false];
    }
    return this.#wanted === undefined ? state : JSON.parse(this.#wanted);
  }

  /** The client is in the room. A state that was sent just before the connection was lost may not have arrived: if the
   * client is still the same member, its entry in the roster tells whether it has. */
  entered({ resumed, member: id, members }, connection) {
    this.#connection = connection;
    const self = members?.find(({ member }) => member === id);
    if (!resumed) this.#known = this.#entering;
    else this.#known = self && JSON.stringify(self.state ?? null);
    this.#flush();
  }

  left() {
    this.#connection = null;
    this.#timer.stop();
  }

  /** The server may have refused the state that was sent last. Returns whether that state is still wanted. If so, only
   * the server knows which one is valid. */
  refused() {
    const isOfLast = this.#wanted !== undefined && this.#wanted === this.#known;
    this.#known = undefined;
    if (isOfLast) [this.#wanted, this.#isRefused] = [undefined, true];
    return isOfLast;
  }

  #flush() {
    this.#timer.stop();
    if (!this.#connection || this.#wanted === undefined || this.#wanted === this.#known) return;
    const { send, budget } = this.#connection;
    const text = `{"event":"state","state":${this.#wanted},"roomId":${JSON.stringify(this.#room)}}`;
    const size = byteLength(text);
    const now = this.#env.performance.now();
    const wait = Math.max(this.#notBefore - now, budget.wait(size));
    if (wait > 0) return this.#timer.arm(wait, () => this.#flush());
    this.#known = this.#wanted;
    this.#notBefore = now + STATE_INTERVAL;
    budget.take(size);
    send(text);
  }
}
