// What was sent on a connection and is not answered yet.

/** What concerns no room. The server answers it in order, but may ignore a token. */
const ROOMLESS = new Set(['auth', 'resume', 'ping']);

/** Requests by kind and id, oldest first: 'auth', 'resume' and 'ping', 'enter' and 'leave' with the room's id, and
 * 'message' with its cid. */
export class Unanswered {
  #requests = [];

  add(kind, id = null) { this.#requests.push({ kind, id }); }

  has(kind, id = null) { return this.#find(kind, id) >= 0; }

  count(kind) { return this.#requests.filter((request) => request.kind === kind).length; }

  /** The oldest one that is no message; undefined if there is none. */
  get next() { return this.#requests.find(({ kind }) => kind !== 'message'); }

  /** Removes the oldest one of this kind, and what before it concerns no room. Returns whether there was one. */
  answered(kind, id = null) {
    const index = this.#find(kind, id);
    this.#requests = this.#requests.filter((request, n) => n !== index && (n > index || !ROOMLESS.has(request.kind)));
    return index >= 0;
  }

  /** Removes the oldest one of this kind. */
  remove(kind, id = null) {
    const index = this.#find(kind, id);
    if (index >= 0) this.#requests.splice(index, 1);
  }

  /** Removes and returns the oldest one that the server may refuse for want of a token. */
  shift() {
    const index = this.#requests.findIndex(({ kind }) => kind !== 'ping');
    return index < 0 ? undefined : this.#requests.splice(index, 1)[0];
  }

  /** Whether the client will be in this room once everything is answered, unless it is refused. */
  isEntering(room) {
    const isOf = ({ kind, id }) => id === room && (kind === 'enter' || kind === 'leave');
    return this.#requests.findLast(isOf)?.kind === 'enter';
  }

  #find(kind, id) { return this.#requests.findIndex((request) => request.kind === kind && request.id === id); }
}
