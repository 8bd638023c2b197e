// The client's progress in a room, across all connections.

/** How many ids of messages are remembered. */
const MAX_IDS = 1_000;

/** The client's own member, and its position in the room. */
export class Progress {
  #name = null;
  #member = null;
  /** The member ids of this client in the current epoch. */
  #members = new Set();
  /** Epoch and seq of the last frame of the room; null before the first enter. */
  #position = null;
  /** The member ids of this client in all epochs. */
  #allMembers = new Set();
  /** The id of the latest message that the client has; null if the server has no store. */
  #id = null;
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

  advance(seq) { this.#position.seq = seq; }

  /** Notes a message. Returns false if the application has had it before. */
  note(id) {
    if (this.#id === null || !Number.isInteger(id)) return true;
    this.#id = Math.max(this.#id, id);
    if (this.#ids.has(id)) return false;
    this.#ids.add(id);
    if (this.#ids.size > MAX_IDS) this.#ids.delete(this.#ids.values().next().value);
    return true;
  }

  /** Takes the answer to an enter. Returns the positions before and after a gap, or null if nothing is missing. */
  enter({ member, name, epoch, seq, id, recovered, replayed }) {
    const before = this.position;
    replayed ??= recovered === true && before ? Math.max(0, seq - before.seq) : 0;
    if (before?.epoch !== epoch) this.#members.clear();
    this.#members.add(member);
    this.#allMembers.add(member);
    // The ids of a replay are lower.
    if (!Number.isInteger(id)) this.#id = null;
    else if (this.#id === null || replayed === 0) this.#id = Math.max(this.#id ?? 0, replayed === 0 ? id : 0);
    // The replay may repeat frames that have arrived since the enter was sent.
    const isAhead = before?.epoch === epoch && before.seq <= seq && before.seq > seq - replayed;
    this.#position = isAhead ? before : { epoch, seq: seq - replayed };
    [this.#member, this.#name] = [member, name];
    const hasGap = before && recovered !== 'store' && (before.epoch !== epoch || before.seq !== this.seq);
    return hasGap ? { before, after: this.position } : null;
  }
}
