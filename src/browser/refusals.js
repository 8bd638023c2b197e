// What the server refuses.

import { ChatError } from './errors.js';
import { MAX_WAIT } from './retry.js';

/** The wait, in milliseconds, if a server says "later", but not when. */
const DEFAULT_RETRY = 1_000;
/** Refusals of a message that are temporary if the server says when to try again. */
const PASSING = new Set(['internal', 'unavailable']);
/** Refusals of a frame that the server could not read. The error has no cid. */
const UNREAD = new Set(['bad_json', 'not_an_object', 'bad_shape', 'too_deep']);

/** Finds out what the errors of a connection are about. */
export class Refusals {
  #events;
  #outbox;
  #rooms;
  #directs;
  #unanswered;
  #on;

  /** `on` has these handlers: `requests()` returns the {@link RoomRequests}, null before the welcome;
   * `answered()`: an answer has arrived; `tokenPostponed(error, wait)`. */
  constructor({ events, outbox, rooms, directs, unanswered }, on) {
    this.#events = events;
    this.#outbox = outbox;
    this.#rooms = rooms;
    this.#directs = directs;
    this.#unanswered = unanswered;
    this.#on = on;
  }

  receive({ code, message, cid, roomId, retryAfter }) {
    const error = new ChatError(String(code), String(message));
    const wait = readWait(retryAfter);
    const requests = this.#on.requests();
    if (cid !== undefined) return this.#message(cid, error, wait);
    if (roomId !== undefined && requests) return requests.refused(roomId, error, wait);
    const { next } = this.#unanswered;
    if (error.code === 'rate_limited' && next) return this.#postponed(next, error, wait ?? DEFAULT_RETRY);
    if (UNREAD.has(error.code) && this.#unread(error)) return;
    if (this.#unanswered.mayBeOther) {
      // The client was no longer in the room, where such a frame may get lost.
      if (error.code === 'not_entered') return;
    } else if (next?.kind === 'enter' && requests) {
      // Answers come in order, so it is about the oldest request, even if the server does not name it.
      return requests.refused(next.id, error, wait);
    }
    // If the client has waited for the answer to a resume, this error was the answer.
    if (requests && !requests.isResuming) this.#directs.notResumed();
    this.#events.emit('error', error);
  }

  #message(cid, error, wait) {
    this.#unanswered.remove('message', cid);
    if (this.#outbox.isRequest(cid)) {
      this.#outbox.reject(cid, error); // Messages must not wait for it.
    } else if (error.code === 'not_entered') {
      // The client was removed from the room while the message was in flight. It is sent again after the next enter.
      const membership = this.#rooms.get(this.#outbox.roomOf(cid));
      if (membership?.isInRoom) membership.removed(error, wait);
    } else if (error.code === 'rate_limited' || (PASSING.has(error.code) && wait !== null)) {
      this.#outbox.postpone(cid, wait ?? DEFAULT_RETRY, { isRate: error.code === 'rate_limited' });
    } else if (!this.#outbox.reject(cid, error)) {
      this.#events.emit('error', error);
    }
  }

  #postponed({ kind, id }, error, wait) {
    if (kind === 'auth') this.#on.tokenPostponed(error, wait);
    else if (kind === 'enter') this.#on.requests().refused(id, error, wait);
    else this.#on.requests().repeat(kind, id);
  }

  /** The server answers in order, so the frame that it could not read is the oldest unanswered one. Returns whether
   * that explains the error. */
  #unread(error) {
    const { kind, id } = this.#unanswered.shift() ?? {};
    this.#on.answered();
    if (kind === 'message') return this.#outbox.reject(id, error);
    if (kind === 'enter') this.#rooms.get(id)?.refused(error, null);
    if (kind === 'members') this.#rooms.get(id)?.pageRefused(null);
    return kind === 'enter';
  }
}

/** The time after which to try again; null if the server has not said. */
export function readWait(retryAfter) {
  return retryAfter >= 0 ? Math.min(retryAfter, MAX_WAIT) : null;
}
