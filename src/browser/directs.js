// Direct messages: to and from users, outside of rooms.

import { randomCid } from './cid.js';
import { ChatError } from './errors.js';
import { NOT_OF_A_ROOM } from './events.js';

/** So many ids of received messages are kept. */
const MAX_KNOWN = 256;

/** Sends messages to users, and delivers the direct frames of the session, each once and in order. */
export class Directs {
  #env;
  #events;
  #outbox;
  #maxQueue;
  /** The queue of messages to users. */
  #lane;
  /** The id of this client's member, which identifies its session; null before the first connection. */
  #member = null;
  /** The number of the last direct frame of the session. */
  #last = 0;
  /** The id of the member if no session is resumed on this connection. */
  #newMember = null;
  /** Sends the text of a message on the connection; null if there is none. */
  #transmit = null;
  /** Direct frames that arrived before it is known whether a session is resumed; null once that is known. */
  #early = null;
  #isAccepted = false;
  /** The latest messages of users, of all sessions: `[user, cid]` as JSON. */
  #known = new Set();

  constructor({ env, events, outbox }, maxQueue) {
    this.#env = env;
    this.#events = events;
    this.#outbox = outbox;
    this.#maxQueue = maxQueue;
    this.#lane = outbox.open(null);
  }

  /** The keys for a resume: the number of the last direct frame, and the session that numbered it. */
  get forResume() { return this.#last > 0 ? { direct: this.#last, member: this.#member } : {}; }

  send(user, message, extra) {
    return new Promise((resolve, reject) => {
      if (this.#outbox.size(this.#lane) >= this.#maxQueue) {
        return reject(new ChatError('overflow', 'too many messages are waiting to be sent'));
      }
      const cid = randomCid(this.#env.crypto);
      const text = JSON.stringify({ ...extra, event: 'direct', message, to: user, cid });
      const acknowledged = ({ reached }) => resolve(reached);
      this.#outbox.add(this.#lane, cid, { event: 'direct', text }, { resolve: acknowledged, reject });
    });
  }

  // ---- What the connection reports -------------------------------------------------------------

  /** There is a new connection, which has a session of its own unless another is resumed. */
  connected(connection, transmit) {
    this.#newMember = connection;
    this.#transmit = transmit;
    this.#early = [];
    this.#isAccepted = false;
  }

  /** Takes the answer to a resume. If it has no `member`, no session was resumed. In both cases, the frames of the
   * current session follow. */
  resumed({ member = this.#newMember, direct = 0 }) {
    const last = member === this.#member ? this.#last : 0;
    this.#member = member;
    this.#last = direct;
    this.#early = null;
    if (direct > last) this.#events.emit('directGap', { missed: direct - last });
    this.#start();
  }

  /** No session is resumed, and no answer to a resume will arrive. */
  notResumed() {
    const early = this.#early;
    if (!early) return;
    this.#member = this.#newMember;
    this.#last = 0;
    this.#early = null;
    for (const frame of early) this.receive(frame);
    this.#start();
  }

  /** Takes a direct frame: one that has a number. */
  receive(frame) {
    if (this.#early) {
      this.#early.push(frame);
    } else if (frame.direct > this.#last) {
      this.#last = frame.direct;
      if (!this.#isKnown(frame)) this.#events.emitFrame(frame, NOT_OF_A_ROOM);
    }
  }

  /** Whether a message has arrived before, perhaps in another session. Its sender sends it again if the acknowledgement
   * was lost together with its own session, in which the server remembered the `cid`. */
  #isKnown({ from, cid }) {
    const user = from?.user;
    if (typeof user !== 'string' || typeof cid !== 'string') return false; // Not of a user.
    const id = JSON.stringify([user, cid]);
    if (this.#known.has(id)) return true;
    this.#known.add(id);
    if (this.#known.size > MAX_KNOWN) this.#known.delete(this.#known.values().next().value);
    return false;
  }

  /** The server has accepted the client. */
  accepted() {
    this.#isAccepted = true;
    this.#start();
  }

  /** The connection is lost, or the server accepts only a new token. */
  stop() {
    this.#isAccepted = false;
    this.#outbox.stop(this.#lane);
  }

  end(error) { this.#outbox.fail(this.#lane, error); }

  #start() {
    if (this.#isAccepted && !this.#early) this.#outbox.start(this.#lane, this.#transmit, this.#member);
  }
}
