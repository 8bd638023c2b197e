// The session: what the client keeps across its connections.

/** The maximum number of resume tokens that a server reads. */
const MAX_RESUME_TOKENS = 8;

/** The client's place in the room: its name and member id, and the frames that it knows. */
export class Session {
  #name = null;
  #online = 0;
  #member = null;
  /** The member ids of this client in the present epoch. */
  #members = new Set();
  /** Epoch and seq of the last frame of the room; null before the first enter. */
  #position = null;
  /** Of connections that may have the session, oldest first. */
  #resumeTokens = [];

  get name() { return this.#name; }
  get online() { return this.#online; }
  get member() { return this.#member; }
  get position() { return this.#position && { ...this.#position }; }
  get seq() { return this.#position.seq; }
  get hasEntered() { return this.#position !== null; }

  /** Whether a frame of this member is the client's own. In a replay, it may be of an earlier membership. */
  isOwn(member, isReplayed) {
    if (typeof member !== 'string') return false;
    return isReplayed ? this.#members.has(member) : member === this.#member;
  }

  setOnline(num) { if (Number.isInteger(num)) this.#online = num; }

  advance(seq) { this.#position.seq = seq; }

  /** What an enter has to say about the session, on a connection with this resume token. */
  resumption(ownToken) {
    const resume = this.#resumeTokens.filter((token) => token !== ownToken);
    return { ...(this.#position && { since: this.position }), ...(resume.length && { resume }) };
  }

  /** An enter is under way on the connection with this resume token. */
  addResumeToken(token) {
    if (!token) return;
    this.#resumeTokens.push(token);
    // The first token is of the last connection that is known to have had the session, which it still has if none of
    // the enters since then has arrived. Otherwise one of the latest connections has it.
    if (this.#resumeTokens.length > MAX_RESUME_TOKENS) this.#resumeTokens.splice(1, 1);
  }

  /** Takes the answer to an enter. Returns the positions before and after a gap, or null if nothing is missing. */
  enter({ member, name, num, epoch, seq, recovered, replayed }, resumeToken) {
    const before = this.position;
    replayed ??= recovered && before ? Math.max(0, seq - before.seq) : 0;
    if (before?.epoch !== epoch) this.#members.clear();
    this.#members.add(member);
    // Frames may have come while the enter was under way. They are replayed as well.
    const isAhead = before?.epoch === epoch && before.seq <= seq && before.seq > seq - replayed;
    this.#position = isAhead ? before : { epoch, seq: seq - replayed };
    [this.#member, this.#name, this.#online] = [member, name, num];
    this.#resumeTokens = resumeToken ? [resumeToken] : [];
    const hasGap = before && (before.epoch !== epoch || before.seq !== this.seq);
    return hasGap ? { before, after: this.position } : null;
  }
}
