// The membership in the room on one connection.

/** Checks the order of the room's frames, and lets the outbox send when it may. */
export class Membership {
  #session;
  #outbox;
  #events;
  #transmit;
  /** The seq of the last frame of the replay. */
  #replayEnd;
  /** Whether the server remembers all unacknowledged messages: then they do not have to wait for the replay. */
  #isAllKnown;
  #isSending = false;
  #hasEnded = false;
  /** Frames since the last one of the room that could not be read. */
  #unread = 0;

  /** `transmit` sends a text on the connection. */
  constructor({ session, outbox, events }, { replayEnd, isAllKnown, transmit }) {
    this.#session = session;
    this.#outbox = outbox;
    this.#events = events;
    this.#transmit = transmit;
    this.#replayEnd = replayEnd;
    this.#isAllKnown = isAllKnown;
  }

  /** Takes a frame of the room. Returns false if a frame before it is missing. */
  receive(frame) {
    const { seq, cid, num, member } = frame;
    const missing = seq - this.#session.seq - 1;
    if (missing < 0) return true;
    if (missing > this.#unread) return false;
    if (missing > 0) this.#skip(missing);
    if (this.#hasEnded) return true; // A handler has left.
    this.#unread = 0;
    this.#session.advance(seq);
    const replayed = seq <= this.#replayEnd;
    if (!replayed) this.#session.setOnline(num);
    const own = this.#session.isOwn(member, replayed);
    if (own) this.#outbox.acknowledge(cid, seq);
    this.#events.emitFrame(frame, { own, replayed });
    this.startSending();
    return true;
  }

  /** The server has dropped frames. */
  lagged(missed) {
    if (!Number.isInteger(missed) || missed < 1) return;
    this.#skip(missed);
    this.startSending();
  }

  /** A frame could not be read. In a replay, it was one of the room; otherwise the next seq shows whether it was. */
  unreadable() {
    if (this.#session.seq < this.#replayEnd) {
      this.lagged(1);
    } else {
      this.#unread += 1;
    }
  }

  /** Sends as soon as no message can be in the replay any more: messages in the replay must not be sent again. */
  startSending() {
    if (this.#hasEnded || this.#isSending) return;
    if (!this.#isAllKnown && this.#session.seq < this.#replayEnd) return;
    this.#isSending = true;
    this.#outbox.start(this.#transmit, this.#session.member);
  }

  end() {
    this.#hasEnded = true;
    this.#outbox.stop();
  }

  /** Frames are gone for good. */
  #skip(count) {
    const before = this.#session.position;
    this.#session.advance(before.seq + count);
    this.#events.emit('gap', { before, after: this.#session.position });
  }
}
