// The requests that were sent on a connection and are not answered yet.

/** Requests that concern no room. The server answers them in order, but may ignore a token. */
const ROOMLESS = new Set(['auth', 'resume', 'ping']);
/** If the server refuses a frame that it does not answer otherwise, it does so within this many milliseconds. */
const REFUSED_WITHIN = 10_000;

/** Requests by kind and id, oldest first: 'auth', 'resume' and 'ping', 'enter', 'leave' and 'members' with the room's
 * id, and 'message' with its cid. */
export class Unanswered {
  #env;
  #requests = [];
  #notedAt = -Infinity;

  constructor(env) { this.#env = env; }

  /** Whether an error that names nothing may be about a frame that the server answers only if it refuses it. */
  get mayBeOther() { return this.#env.performance.now() - this.#notedAt < REFUSED_WITHIN; }

  /** Notes that such a frame is sent. */
  noteOther() { this.#notedAt = this.#env.performance.now(); }

  add(kind, id = null) { this.#requests.push({ kind, id }); }

  has(kind, id = null) { return this.#find(kind, id) >= 0; }

  count(kind) { return this.#requests.filter((request) => request.kind === kind).length; }

  /** The oldest request other than a message; undefined if there is none. */
  get next() { return this.#requests.find(({ kind }) => kind !== 'message'); }

  /** Removes the oldest request of this kind, and earlier ones that concern no room. Returns whether there was one. */
  answered(kind, id = null) {
    const index = this.#find(kind, id);
    this.#requests = this.#requests.filter((request, n) => n !== index && (n > index || !ROOMLESS.has(request.kind)));
    return index >= 0;
  }

  /** Removes the oldest request of this kind. */
  remove(kind, id = null) {
    const index = this.#find(kind, id);
    if (index >= 0) this.#requests.splice(index, 1);
  }

  /** Removes and returns the oldest request that the server may answer with `noAuth`. */
  shift() {
    const index = this.#requests.findIndex(({ kind }) => kind !== 'ping');
    return index < 0 ? undefined : this.#requests.splice(index, 1)[0];
  }

  /** Whether the last unanswered request for this room is an enter. */
  isEntering(room) {
    const isOf = ({ kind, id }) => id === room && (kind === 'enter' || kind === 'leave');
    return this.#requests.findLast(isOf)?.kind === 'enter';
  }

  /** The oldest unanswered enter or request for a page of the roster of this room; undefined if there is none. */
  oldestOf(room) {
    return this.#requests.find(({ kind, id }) => id === room && (kind === 'enter' || kind === 'members'))?.kind;
  }

  #find(kind, id) { return this.#requests.findIndex((request) => request.kind === kind && request.id === id); }
}
