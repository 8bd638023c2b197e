// What the client has received of a room, across all connections.

/** The member as the room knows it, and the frames that the client knows. */
export class Progress {
  #name = null;
  #online = 0;
  #member = null;
  /** The member ids of this client in the present epoch. */
  #members = new Set();
  /** Epoch and seq of the last frame of the room; null before the first enter. */
  #position = null;

  get name() { return this.#name; }
  get online() { return this.#online; }
  get member() { return this.#member; }
  get position() { return this.#position && { ...this.#position }; }
  get seq() { return this.#position.seq; }

  /** Whether a frame of this member is the client's own. An old frame may be of an earlier membership. */
  isOwn(member, isOld) {
    if (typeof member !== 'string') return false;
    return isOld ? this.#members.has(member) : member === this.#member;
  }

  setOnline(num) { if (Number.isInteger(num)) this.#online = num; }

  advance(seq) { this.#position.seq = seq; }

  /** Takes the answer to an enter. Returns the positions before and after a gap, or null if nothing is missing. */
  enter({ member, name, num, epoch, seq, recovered, replayed }) {
    const before = this.position;
    replayed ??= recovered && before ? Math.max(0, seq - before.seq) : 0;
    if (before?.epoch !== epoch) this.#members.clear();
    this.#members.add(member);
    // Frames may have come while the enter was under way. They are replayed as well.
    const isAhead = before?.epoch === epoch && before.seq <= seq && before.seq > seq - replayed;
    this.#position = isAhead ? before : { epoch, seq: seq - replayed };
    [this.#member, this.#name, this.#online] = [member, name, num];
    const hasGap = before && (before.epoch !== epoch || before.seq !== this.seq);
    return hasGap ? { before, after: this.position } : null;
  }
}
