// Messages that are not acknowledged yet.

import { ChatError } from './errors.js';
import { Timer } from './timer.js';

/** The initial number of messages that may be in flight on a connection. Each accepted one allows one more. */
const FIRST_WINDOW = 16;

/** The messages of one room. Only the outbox changes them. */
class Lane {
  constructor(room) {
    this.room = room;
    /** Sends a text under its cid; null while nothing may be sent. */
    this.transmit = null;
    /** The client's member id, which identifies its session. */
    this.member = null;
    /** How many messages may be in flight. After a refusal only the refused one, so that none overtakes it. Each
     * accepted message then allows one more. */
    this.window = Infinity;
    this.notBefore = 0;
  }
}

/** Keeps the messages of all rooms until they are acknowledged. Sends them in order, each once on a connection, and
 * within the server's rate limits. */
export class Outbox {
  #env;
  #timer;
  /**
   * By cid, in order: `{ lane, text, size, isSent, member, number, resolve, reject }`. `member` is the member id under
   * which the message was last sent. `number` is the value of `#count` when it was first sent under this id.
   */
  #messages = new Map();
  /** Null without a connection. */
  #budget = null;
  #maxSize = Infinity;
  #maxInFlight = Infinity;
  /** Like the window of a lane, but for all rooms. */
  #window = FIRST_WINDOW;
  /** How many messages were sent, including repetitions. */
  #count = 0;

  constructor(env) {
    this.#env = env;
    this.#timer = new Timer(env);
  }

  /** Returns the lane of a room. */
  open(room) { return new Lane(room); }

  size(lane) { return this.#of(lane).length; }

  /** Whether the session of this member remembers every message of the lane that was sent. The server remembers only
   * the latest messages of a session, over all its rooms. */
  isKnownTo(lane, member) {
    const isRemembered = (message) => message.member === member && this.#count - message.number < this.#maxInFlight;
    return this.#of(lane).every((message) => message.member === null || isRemembered(message));
  }

  /** The room of a message that is in flight. */
  roomOf(cid) {
    const message = this.#messages.get(cid);
    return message?.isSent ? message.lane.room : null;
  }

  add(lane, cid, text, { resolve, reject }) {
    const size = new TextEncoder().encode(text).length;
    if (size > this.#maxSize) return reject(tooBig());
    this.#messages.set(cid, { lane, text, size, isSent: false, member: null, number: 0, resolve, reject });
    this.#flush();
  }

  /** Takes the limits of a new connection. A limit that is null means none. */
  configure(limits, budget) {
    this.#maxSize = limits?.messageBytes ?? Infinity;
    this.#maxInFlight = limits?.cids ?? Infinity;
    this.#budget = budget;
    // The server may refuse messages earlier than the budget expects. Then only a few should be in flight.
    this.#window = budget.isUnlimited ? Infinity : Math.min(this.#window, FIRST_WINDOW);
  }

  /** The connection is lost. */
  disconnect() { this.#budget = null; }

  /** The messages of a lane may be sent. */
  start(lane, transmit, member) {
    Object.assign(lane, { transmit, member });
    this.#flush();
  }

  /** The messages of a lane have to wait. Those in flight will be sent again. */
  stop(lane) {
    lane.transmit = null;
    for (const message of this.#of(lane)) message.isSent = false;
    this.#flush();
  }

  acknowledge(cid, seq) {
    const message = this.#take(cid);
    if (message) {
      message.resolve({ seq });
      message.lane.window += 1;
      this.#window += 1;
    }
    this.#flush();
  }

  reject(cid, error) {
    const message = this.#take(cid);
    message?.reject(error);
    this.#flush();
    return Boolean(message);
  }

  /** The server accepts this message later. Until then, nothing is sent to its room. If a rate was exceeded, the other
   * rooms send more slowly, too. */
  postpone(cid, wait, { isRate }) {
    const message = this.#messages.get(cid);
    if (!message) return;
    message.isSent = false;
    message.lane.window = 1;
    message.lane.notBefore = Math.max(message.lane.notBefore, this.#now() + wait);
    if (isRate) {
      this.#window = 1;
      this.#budget?.drain();
    }
    this.#flush();
  }

  /** Ends a lane. Rejects its messages. */
  fail(lane, error) {
    for (const [cid, message] of [...this.#messages]) {
      if (message.lane !== lane) continue;
      this.#messages.delete(cid);
      message.reject(error);
    }
    lane.transmit = null;
    this.#flush();
  }

  #of(lane) { return [...this.#messages.values()].filter((message) => message.lane === lane); }

  #take(cid) {
    const message = this.#messages.get(cid);
    this.#messages.delete(cid);
    return message;
  }

  /** Sends in the order of the calls. A room whose next message has to wait does not delay the other rooms. */
  #flush() {
    this.#timer.stop();
    if (!this.#budget) return;
    const now = this.#now();
    const inFlight = this.#inFlight();
    const total = [...inFlight.values()].reduce((sum, count) => sum + count, 0);
    let free = Math.min(this.#window, this.#maxInFlight) - total;
    let next = Infinity;
    for (const [cid, message] of [...this.#messages]) {
      const { lane, size } = message;
      if (message.isSent || !lane.transmit) continue;
      if (size > this.#maxSize) {
        this.#take(cid).reject(tooBig()); // This server accepts less than the last one.
        continue;
      }
      if (free <= 0) break;
      const count = inFlight.get(lane) ?? 0;
      if (lane.notBefore > now) next = Math.min(next, lane.notBefore - now);
      if (count >= lane.window || lane.notBefore > now) continue;
      const wait = this.#budget.wait(size);
      if (wait > 0) {
        next = Math.min(next, wait);
        break;
      }
      this.#budget.take(size);
      free -= 1;
      inFlight.set(lane, count + 1);
      this.#send(cid, message);
    }
    if (next < Infinity) this.#timer.arm(next, () => this.#flush());
  }

  #send(cid, message) {
    const { lane } = message;
    // `number` keeps its first value under a member id, because the server may have received the first attempt.
    this.#count += 1;
    if (message.member !== lane.member) message.number = this.#count;
    Object.assign(message, { isSent: true, member: lane.member });
    lane.transmit(message.text, cid);
  }

  /** The number of messages of each lane that are in flight. */
  #inFlight() {
    const counts = new Map();
    for (const { lane, isSent } of this.#messages.values()) if (isSent) counts.set(lane, (counts.get(lane) ?? 0) + 1);
    return counts;
  }

  #now() { return this.#env.performance.now(); }
}

function tooBig() {
  return new ChatError('too_big', 'the message is bigger than the server accepts');
}
