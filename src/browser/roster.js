// The members of a room.

/** What the client knows about the members of a room. Member objects are immutable: a changed member gets a new one. */
export class Roster {
  /** Returns the member of a frame or page. */
  #read;
  /** By id, in the order in which they have entered; null if unknown. */
  #members = null;
  #isComplete = false;

  /** `own` tells the own member: `isOwn(id)`, and `ownState(state)` returns its state, given the one that the server
   * has. */
  constructor({ isOwn, ownState }) {
    this.#read = ({ member: id, name, user, info, state }) => {
      const self = isOwn(id);
      const optional = present({ user, info, state: self ? ownState(state) : state });
      return { id, name, ...optional, self };
    };
  }

  get isKnown() { return this.#members !== null; }

  /** Whether these are all members of the room. */
  get isComplete() { return this.#isComplete; }

  get size() { return this.#members?.size ?? 0; }

  /** The members in the order in which they have entered; null if unknown. */
  get list() { return this.#members && [...this.#members.values()]; }

  /** The number of different authenticated users. */
  get users() {
    const users = new Set(this.list?.map(({ user }) => user));
    users.delete(undefined);
    return users.size;
  }

  get(id) { return this.#members?.get(id) ?? null; }

  /** Takes the first page. */
  fill(page) {
    this.#members = new Map();
    this.add(page);
  }

  /** Takes the next page. Its members entered after those on earlier pages. */
  add({ members, next }) {
    for (const member of members ?? []) this.enter(member);
    this.#isComplete = this.isKnown && next === undefined;
  }

  enter(frame) {
    const member = this.#read(frame);
    this.#members?.delete(member.id);
    this.#members?.set(member.id, member);
  }

  out(id) { this.#members?.delete(id); }

  /** Takes the new `user`, `info` and `state` of a member. A key that is missing has not changed; null removes. */
  change({ member: id, user, info, state }) {
    const before = this.get(id);
    if (!before) return;
    const given = Object.entries({ user, info, state }).filter(([, value]) => value !== undefined);
    const changes = Object.fromEntries(given);
    if (before.self) delete changes.state;
    this.#replace(before, changes);
  }

  /** The client has changed its own state. */
  changeOwn(id, state) {
    const before = this.get(id);
    if (before) this.#replace(before, { state });
  }

  /** Some of the members may be wrong or missing. */
  doubt() { this.#isComplete = false; }

  forget() {
    this.#members = null;
    this.#isComplete = false;
  }

  #replace({ id, name, self, ...optional }, changes) {
    this.#members.set(id, { id, name, ...present({ ...optional, ...changes }), self });
  }
}

/** The object without the keys that have no value. */
function present(values) {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined && value !== null));
}
