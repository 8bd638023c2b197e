// The client's progress in a room, across all connections.

/** The client's own member, and its position in the room. */
export class Progress {
  #name = null;
  #member = null;
  /** The member ids of this client in the current epoch. */
  #members = new Set();
  /** Epoch and seq of the last frame of the room; null before the first enter. */
  #position = null;

  get name() { return this.#name; }
  get member() { return this.#member; }
  get position() { return this.#position && { ...this.#position }; }
  get seq() { return this.#position.seq; }

  /** Whether a frame of this member is the client's own. An old frame may be of an earlier membership. */
  isOwn(member, isOld) {
    if (typeof member !== 'string') return false;
    return isOld ? this.#members.has(member) : member === this.#member;
  }

  advance(seq) { this.#position.seq = seq; }

  /** Takes the answer to an enter. Returns the positions before and after a gap, or null if nothing is missing. */
  enter({ member, name, epoch, seq, recovered, replayed }) {
    const before = this.position;
    replayed ??= recovered && before ? Math.max(0, seq - before.seq) : 0;
    if (before?.epoch !== epoch) this.#members.clear();
    this.#members.add(member);
    // The replay may repeat frames that have arrived since the enter was sent.
    const isAhead = before?.epoch === epoch && before.seq <= seq && before.seq > seq - replayed;
    this.#position = isAhead ? before : { epoch, seq: seq - replayed };
    [this.#member, this.#name] = [member, name];
    const hasGap = before && (before.epoch !== epoch || before.seq !== this.seq);
    return hasGap ? { before, after: this.position } : null;
  }
}
