// A room in the model of the server: its frames, its members, and what members learn about each other.

/** The keys of a member that may be missing. */
const OPTIONAL = ['user', 'info', 'state'];

export class Room {
  /** The frames by seq - 1. */
  log = [];
  /** The sessions that are in the room, by member id. */
  members = new Map();
  /** The visible members by id, in the order in which they have entered: `{ member, name, user, info, state, place }`. */
  roster = new Map();
  #places = 0;
  #isNumDue = false;
  /** By member id, the changes that are not published yet: `{ keys, by }`, where `by` is the link that knows all of them. */
  #changes = new Map();

  /** With `on` and `off` the mode depends on the number of members. */
  constructor(id, epoch, { mode = 'full', on, off, pageSize = 100 }) {
    Object.assign(this, { id, epoch, mode, on, off, pageSize });
  }

  get num() { return this.roster.size; }

  get users() { return new Set([...this.roster.values()].flatMap(({ user }) => user ?? [])).size; }

  /** The roster as a client should know it. */
  get list() { return [...this.roster.values()].map(toMember); }

  // ---- Members ---------------------------------------------------------------------------------

  /** A member is in the room; `announce` tells the others. */
  add(session, profile) {
    this.members.set(session.member, session);
    this.roster.set(session.member, { ...profile, member: session.member, place: this.#places += 1 });
  }

  announce({ member }) {
    const { place, ...profile } = this.roster.get(member);
    if (this.mode !== 'full') return this.#numChanged();
    this.publish({ event: 'enter', message: profile.name, ...profile });
    if (this.num === this.on) this.switchTo('count');
  }

  remove(member) {
    const { name } = this.roster.get(member);
    this.members.delete(member);
    this.roster.delete(member);
    this.#changes.delete(member);
    if (this.mode === 'full') return this.publish({ event: 'out', name, member });
    this.#numChanged();
    if (this.num === this.off) this.switchTo('full');
  }

  /** Changes a member; a value that is null is removed. `by` is the link of the member if it has set its
   * state itself. */
  change(member, values, by = null) {
    const entry = this.roster.get(member);
    if (!entry) return;
    Object.assign(entry, values);
    const { keys = [], by: before = by } = this.#changes.get(member) ?? {};
    this.#changes.set(member, { keys: [...keys, ...Object.keys(values)], by: before === by ? by : null });
  }

  /** Publishes the changes of members. */
  flushChanges() {
    for (const [member, { keys, by }] of this.#changes) {
      const entry = this.roster.get(member);
      const values = Object.fromEntries(keys.map((key) => [key, entry[key] ?? null]));
      const frame = { event: 'state', ...values, name: entry.name, num: this.num, member, roomId: this.id };
      if (this.mode === 'full') for (const link of this.#subscribers()) if (link !== by) this.#deliver(link, frame);
    }
    this.#changes.clear();
  }

  // ---- Presence --------------------------------------------------------------------------------

  switchTo(mode) {
    this.mode = mode;
    this.#sendPresence();
  }

  flushNum() {
    if (this.#isNumDue) this.#sendPresence();
  }

  /** The mode, and in full mode a page of the roster after this place. */
  page(after = 0) {
    const rest = [...this.roster.values()].filter(({ place }) => place > after);
    const page = rest.slice(0, this.pageSize);
    const hasMore = rest.length > page.length;
    const members = this.mode === 'full' && { members: page.map(toMember), ...(hasMore && { next: String(page.at(-1).place) }) };
    return { mode: this.mode, users: this.users, ...members };
  }

  #numChanged() {
    this.#isNumDue = this.mode === 'count';
    if (this.num < 2) this.flushNum();
  }

  #sendPresence() {
    this.#isNumDue = false;
    for (const link of this.#subscribers()) this.#deliver(link, this.#presence());
  }

  #presence() { return { event: 'presence', roomId: this.id, mode: this.mode, num: this.num, users: this.users }; }

  // ---- Frames ----------------------------------------------------------------------------------

  /** Publishes a frame, and returns its seq. */
  publish(frame) {
    const stamped = { ...frame, num: this.num, roomId: this.id, seq: this.log.length + 1 };
    this.log.push(stamped);
    for (const link of this.#subscribers()) this.#deliver(link, stamped);
    return stamped.seq;
  }

  /** The members read too slowly: until `catchUp`, they miss all frames. */
  lag() {
    for (const link of this.#subscribers()) if (!link.lags.has(this.id)) link.lags.set(this.id, { missed: 0, isBehind: false });
  }

  catchUp(link) {
    const lag = link.lags.get(this.id);
    link.lags.delete(this.id);
    if (lag?.missed > 0) link.out.push({ event: 'lagged', roomId: this.id, missed: lag.missed });
    if (lag?.isBehind) link.out.push(this.#presence());
  }

  catchUpAll() {
    for (const link of this.#subscribers()) this.catchUp(link);
  }

  #deliver(link, frame) {
    const lag = link.lags.get(this.id);
    if (!lag) link.out.push(frame);
    else if (frame.seq) lag.missed += 1;
    else lag.isBehind = true;
  }

  #subscribers() {
    return [...this.members.values()].map(({ link }) => link).filter((link) => link?.subscribed.has(this.id));
  }
}

function toMember({ member, name, ...entry }) {
  const optional = OPTIONAL.filter((key) => (entry[key] ?? null) !== null).map((key) => [key, entry[key]]);
  return { member, name, ...Object.fromEntries(optional) };
}
