// The client's progress in a room, across all connections.

/** How many ids of messages are remembered. */
const MAX_IDS = 1_000;
/** How many member ids of this client are remembered. */
const MAX_MEMBERS = 16;

/** The client's own member, and its position in the room. */
export class Progress {
  #name = null;
  #member = null;
  /** The latest member ids of this client in the current epoch. */
  #members = new Set();
  /** Epoch and seq of the last frame of the room; null before the first enter. */
  #position = null;
  /** The latest member ids of this client in all epochs. */
  #allMembers = new Set();
  /** The id of the latest message that the client has; null if the server has no store. */
  #id = null;
  /** The `seq` and `id` of the last `entered`, until the client has all frames up to this `seq`. Later messages have
   * higher ids. */
  #entered = null;
  /** Ids of messages that the application has had. After a crash of the server, a message may come twice. */
  #ids = new Set();

  get name() { return this.#name; }
  get member() { return this.#member; }
  get position() { return this.#position && { ...this.#position }; }
  get seq() { return this.#position.seq; }

  /** Whether a frame of this member is the client's own. An old frame may be of an earlier membership. */
  isOwn(member, isOld) {
    if (typeof member !== 'string') return false;
    return isOld ? this.#members.has(member) : member === this.#member;
  }

  /** As `isOwn`, for a message from the server's store. A server with a store uses no member id again. */
  wasOwn(member) { return typeof member === 'string' && this.#allMembers.has(member); }

  /** Where the client wants to go on. */
  get since() { return this.#position && { ...this.#position, ...(this.#id !== null && { id: this.#id }) }; }

  advance(seq) {
    this.#position.seq = seq;
    if (!this.#entered || seq < this.#entered.seq) return;
    this.#id = Math.max(this.#id, this.#entered.id);
    this.#entered = null;
  }

  /** Notes a message. Returns false if the application has had it before. */
  note(id) {
    if (this.#id === null || !Number.isInteger(id)) return true;
    this.#id = Math.max(this.#id, id);
    if (this.#ids.has(id)) return false;
    addLatest(this.#ids, id, MAX_IDS);
    return true;
  }

  /** Takes the answer to an enter. Returns the positions before and after a gap, or null if nothing is missing. */
  enter({ member, name, epoch, seq, id, recovered, replayed }) {
    const before = this.position;
    replayed ??= recovered === true && before ? Math.max(0, seq - before.seq) : 0;
    if (before?.epoch !== epoch) this.#members.clear();
    for (const members of [this.#members, this.#allMembers]) addLatest(members, member, MAX_MEMBERS);
    const hasStore = Number.isInteger(id);
    this.#id = hasStore ? this.#id ?? 0 : null;
    this.#entered = hasStore ? { seq, id } : null;
    // The replay may repeat frames that have arrived since the enter was sent.
    const isAhead = before?.epoch === epoch && before.seq <= seq && before.seq > seq - replayed;
    this.#position = isAhead ? before : { epoch, seq: seq - replayed };
    this.advance(this.seq);
    [this.#member, this.#name] = [member, name];
    const hasGap = before && recovered !== 'store' && (before.epoch !== epoch || before.seq !== this.seq);
    return hasGap ? { before, after: this.position } : null;
  }
}

/** Adds a value to a set that keeps this many of the latest ones. */
function addLatest(set, value, size) {
  set.delete(value);
  set.add(value);
  if (set.size > size) set.delete(set.values().next().value);
}
