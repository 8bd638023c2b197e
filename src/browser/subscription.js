// The frames of a room on one connection.

/** Checks the order of the room's frames, and lets the outbox send when it may. */
export class Subscription {
  #progress;
  #outbox;
  #lane;
  #events;
  #presence;
  #transmit;
  #transients;
  /** The seq of the last frame of the replay. */
  #replayEnd;
  /** Whether the server remembers all unacknowledged messages: then they do not have to wait for the replay. */
  #isAllKnown;
  /** How many messages of the history are still to come. */
  #history;
  /** Whether the room was entered for the first time. After a later enter, the client has missed the messages from the
   * server's store, and has already had those of the history. */
  #isFirst;
  #isSending = false;
  #hasEnded = false;
  /** Frames since the last one of the room that could not be read. */
  #unread = 0;

  /** `transmit` sends the text of a message on the connection, `transients` sends transient frames. */
  constructor({ progress, outbox, lane, events, presence }, settings) {
    const { replayEnd, isAllKnown, history, isFirst, transmit, transients } = settings;
    this.#progress = progress;
    this.#outbox = outbox;
    this.#lane = lane;
    this.#events = events;
    this.#presence = presence;
    this.#transmit = transmit;
    this.#transients = transients;
    this.#replayEnd = replayEnd;
    this.#isAllKnown = isAllKnown;
    this.#history = history;
    this.#isFirst = isFirst;
  }

  /** Takes a frame of the room. Returns false if a frame before it is missing. */
  receive(frame) {
    const { seq, id, cid, member } = frame;
    if (this.#isOfHistory(seq)) return this.#receiveHistory(frame);
    const missing = seq - this.#progress.seq - 1;
    if (missing < 0) return true;
    if (missing > this.#unread) return false;
    if (missing > 0) this.#skip(missing);
    if (this.#hasEnded) return true; // A handler has left.
    this.#unread = 0;
    this.#progress.advance(seq);
    const replayed = seq <= this.#replayEnd;
    // The answer to the enter has taken a replay into account.
    if (!replayed) this.#presence.receive(frame);
    const own = this.#progress.isOwn(member, replayed);
    if (own) this.#outbox.acknowledge(cid, { seq, id });
    if (this.#progress.note(id)) this.#events.emitFrame(frame, { own, replayed, history: false });
    this.startSending();
    return true;
  }

  /** Takes messages from the server's store, which come before all frames of the room. */
  receiveStored(messages) {
    for (const frame of messages) {
      if (this.#hasEnded) return; // A handler has left.
      const own = this.#progress.wasOwn(frame.member);
      if (!this.#progress.note(frame.id)) continue;
      this.#events.emitFrame(frame, { own, replayed: !this.#isFirst, history: this.#isFirst });
    }
  }

  /** Takes a frame that has no place in the room. */
  receiveTransient(frame) {
    const own = this.#progress.isOwn(frame.member, false);
    this.#events.emitFrame(frame, { own, replayed: false, history: false });
  }

  /** The server has dropped frames. */
  lagged(missed) {
    if (!Number.isInteger(missed) || missed < 1) return;
    this.#skip(missed);
    this.startSending();
  }

  /** The client could not read a frame. If there are several rooms, the next seq shows whether it was of this room. In
   * the history or replay of the only room, it was. */
  unreadable(isOnlyRoom) {
    if (isOnlyRoom && this.#history > 0) {
      this.#history -= 1;
    } else if (isOnlyRoom && this.#progress.seq < this.#replayEnd) {
      this.lagged(1);
    } else {
      this.#unread += 1;
    }
  }

  /** Starts sending once the rest of the replay contains no own messages, because those must not be sent again. */
  startSending() {
    if (this.#hasEnded || this.#isSending) return;
    if (!this.#isAllKnown && this.#progress.seq < this.#replayEnd) return;
    this.#isSending = true;
    this.#outbox.start(this.#lane, this.#transmit, this.#progress.member);
  }

  /** Returns whether it was sent, now or as soon as the rate allows. It must not overtake a message. */
  sendTransient(event, message) {
    return !this.#outbox.isWaiting(this.#lane) && this.#transients.add(this.#lane.room, event, message);
  }

  /** The server does the same when a message comes from the sender of a transient frame. */
  dropTransients() { this.#transients.drop(this.#lane.room); }

  end() {
    this.#hasEnded = true;
    this.dropTransients();
    this.#outbox.stop(this.#lane);
  }

  /** The history comes first, and is older than everything that follows. */
  #isOfHistory(seq) {
    if (seq > this.#replayEnd) this.#history = 0;
    return this.#history > 0;
  }

  /** Takes a message of the history. It does not change the position and acknowledges nothing. */
  #receiveHistory(frame) {
    this.#history -= 1;
    const own = this.#progress.isOwn(frame.member, true);
    if (this.#isFirst && this.#progress.note(frame.id)) {
      this.#events.emitFrame(frame, { own, replayed: false, history: true });
    }
    return true;
  }

  /** Skips frames that cannot be recovered. */
  #skip(count) {
    const before = this.#progress.position;
    this.#progress.advance(before.seq + count);
    if (this.#progress.seq > this.#replayEnd) this.#presence.doubt();
    this.#events.emit('gap', { before, after: this.#progress.position });
  }
}
