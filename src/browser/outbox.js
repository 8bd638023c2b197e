// Messages that are not acknowledged yet.

import { ChatError } from './errors.js';
import { byteLength } from './json.js';
import { Timer } from './timer.js';

/** The initial number of messages that may be in flight on a connection. Each accepted one allows one more. */
const FIRST_WINDOW = 16;

/** The messages of one room, or those to users: then `room` is null. Only the outbox changes them. */
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
   * By cid, in order: `{ lane, event, text, size, isSent, member, number, resolve, reject }`. `member` is the member id
   * under which the message was sent last, `number` how many were sent until it was sent under this id for the first
   * time.
   */
  #messages = new Map();
  /** Null without a connection. */
  #budget = null;
  #maxSize = Infinity;
  #maxInFlight = Infinity;
  /** Whether an event is one that the server does not acknowledge. */
  #isTransient = () => false;
  /** As that of a lane, for all rooms. */
  #window = FIRST_WINDOW;
  /** How many messages were sent, including repetitions. */
  #count = 0;

  constructor(env) {
    this.#env = env;
    this.#timer = new Timer(env);
  }

  /** Returns the lane of a room, or that of the messages to users. */
  open(room) { return new Lane(room); }

  size(lane) { return this.#of(lane).length; }

  /** Whether a message of the lane still has to be sent. */
  isWaiting(lane) { return this.#of(lane).some(({ isSent }) => !isSent); }

  /** Whether the session of this member remembers every message of the lane that was ever sent. The server remembers
   * the latest messages of a session, of whichever room. */
  isKnownTo(lane, member) {
    const isRemembered = (message) => message.member === member && this.#count - message.number < this.#maxInFlight;
    return this.#of(lane).every((message) => message.member === null || isRemembered(message));
  }

  /** Whether this is a request for messages. Once it is answered, it is not sent again. */
  isRequest(cid) { return this.#messages.get(cid)?.event === 'history'; }

  /** The room of a message that is in flight. */
  roomOf(cid) {
    const message = this.#messages.get(cid);
    return message?.isSent ? message.lane.room : null;
  }

  add(lane, cid, { event, text }, { resolve, reject }) {
    const size = byteLength(text);
    const refusal = this.#refusal(event, size);
    if (refusal) return reject(refusal);
    this.#messages.set(cid, { lane, event, text, size, isSent: false, member: null, number: 0, resolve, reject });
    this.#flush();
  }

  /** Takes the limits of a new connection. A limit that is null means none. `isTransient(event)` returns whether the
   * server does not acknowledge an event. */
  configure(limits, budget, isTransient) {
    this.#maxSize = limits?.messageBytes ?? Infinity;
    this.#maxInFlight = limits?.cids ?? Infinity;
    this.#budget = budget;
    this.#isTransient = isTransient;
    // If the server knows better, it must not have to refuse many at the same time.
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

  /** The server has the message. `answer` has its `seq` and `id`, or the number of connections that it has `reached`. */
  acknowledge(cid, answer) {
    const message = this.#take(cid);
    if (message) {
      message.resolve(answer);
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
      const { lane, event, size } = message;
      if (message.isSent || !lane.transmit) continue;
      const refusal = this.#refusal(event, size); // This server may accept less than the last one.
      if (refusal) {
        this.#take(cid).reject(refusal);
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

  /** Why this server accepts no such message; null if it does. */
  #refusal(event, size) {
    if (size > this.#maxSize) return new ChatError('too_big', 'the message is bigger than the server takes');
    if (!this.#isTransient(event)) return null;
    return new ChatError('transient', `the server acknowledges no "${event}", a transient event; use sendTransient()`);
  }

  #now() { return this.#env.performance.now(); }
}
