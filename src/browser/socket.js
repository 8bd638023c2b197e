// One WebSocket with heartbeats.

import { Timer } from './timer.js';

// Times are milliseconds.
const DEFAULT_HEARTBEAT = { interval: 25_000, timeout: 20_000 };
/** A probe has to be answered within this time. */
const PROBE_TIMEOUT = 3_000;
/** The highest factor for timeouts if connections have turned out to be slow. */
const MAX_TIMEOUT_FACTOR = 4;
/** Heartbeats that come in time for this long show that the connection is not slow any more. */
const PROMPT_AFTER = 10_000;

/** One WebSocket from before it is opened until it is dropped. Answers heartbeats, and finds out whether the other
 * end is still there. After `close` it reports nothing, no matter what the WebSocket does. */
export class Socket {
  #env;
  #timeoutFactor;
  #on;
  #timer;
  #socket = null;
  #maxSilence = Infinity;
  #heardAt;
  #openedAt;
  /** Nothing has come too late for a timeout factor of 1. */
  #isPrompt = true;
  /** The time by which the server must have answered; null if any frame will do. */
  #answerBy = null;
  #probedAt = null;
  #buffered = 0;

  /** `on` has the handlers `opened`, `frame`, `unreadable`, `closed` and `dead`. */
  constructor(env, timeoutFactor, on) {
    this.#env = env;
    this.#timeoutFactor = timeoutFactor;
    this.#on = on;
    this.#timer = new Timer(env);
    this.#heardAt = this.#now();
  }

  /** The factor by which the timeouts of the next connection are multiplied. */
  get timeoutFactor() { return this.#timeoutFactor; }

  open(url, protocols) {
    const socket = new this.#env.WebSocket(url, protocols);
    this.#socket = socket;
    socket.onopen = () => {
      this.#openedAt = this.#now();
      this.#on?.opened(socket.protocol);
    };
    socket.onmessage = ({ data }) => this.#on && this.#receive(data);
    socket.onclose = ({ code, reason }) => this.#on?.closed(code, reason ?? '');
    // A close follows. Without a handler, the WebSockets of Node's `ws` throw their errors.
    socket.onerror = () => {};
  }

  send(frame) {
    this.#noteProgress();
    this.#socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame));
    this.#buffered = this.#socket.bufferedAmount;
  }

  close(code, reason) {
    this.#on = null;
    this.#timer.stop();
    this.#socket?.close(code, reason.slice(0, 40));
  }

  setHeartbeat(heartbeat) {
    const { interval, timeout } = { ...DEFAULT_HEARTBEAT, ...heartbeat };
    this.#maxSilence = interval + timeout;
    this.#watch();
  }

  /** From now on the server has to answer within this time. With null, any frame within the heartbeat will do. */
  expectAnswer(within) {
    this.#answerBy = within === null ? null : this.#now() + within * this.#timeoutFactor;
    this.#watch();
  }

  /** Asks the server for an answer, unless that is under way. */
  probe() {
    if (this.#probedAt !== null || this.#socket?.readyState !== 1) return;
    this.send({ event: 'heartbeat', message: 'ping' });
    this.#awaitProbe();
  }

  #awaitProbe() {
    this.#probedAt = this.#now();
    this.#timer.arm(PROBE_TIMEOUT * this.#timeoutFactor, (isLate) => this.#check(isLate));
  }

  #watch() {
    if (this.#probedAt === null) this.#timer.arm(this.#timeLeft(), (isLate) => this.#check(isLate));
  }

  #timeLeft() {
    return (this.#answerBy ?? this.#heardAt + this.#maxSilence * this.#timeoutFactor) - this.#now();
  }

  /** Compares times. A timer that fires proves nothing, because browsers slow down and suspend timers. A late timer
   * may have overtaken frames, so these and a probe get some more time. */
  #check(isLate) {
    this.#noteProgress();
    const wasProbed = this.#probedAt !== null;
    const isUnanswered = wasProbed && this.#heardAt < this.#probedAt;
    this.#probedAt = null;
    if (this.#timeLeft() > 0 && !isUnanswered) return this.#watch();
    if (wasProbed) return this.#on.dead();
    if (!isLate) {
      this.#timeoutFactor = Math.min(MAX_TIMEOUT_FACTOR, this.#timeoutFactor * 2);
      return this.#on.dead();
    }
    if (this.#socket?.readyState === 1) this.probe();
    else this.#awaitProbe();
  }

  /** If the network accepts data while more data waits, the other end is there. The last of it may
   * just have moved into the system's own buffer. */
  #noteProgress() {
    const buffered = this.#socket?.bufferedAmount ?? 0;
    if (buffered > 0 && buffered < this.#buffered) this.#heardAt = this.#now();
    this.#buffered = buffered;
  }

  #receive(data) {
    const now = this.#now();
    if (now - this.#heardAt > this.#maxSilence) this.#isPrompt = false;
    this.#heardAt = now;
    const frame = parseFrame(data);
    if (!frame) return this.#on.unreadable();
    if (frame.event === 'heartbeat') {
      if (frame.message !== 'pong') this.send({ event: 'heartbeat', message: 'pong' });
      if (this.#isPrompt && now - this.#openedAt > PROMPT_AFTER) this.#timeoutFactor = 1;
    }
    this.#on.frame(frame);
  }

  #now() { return this.#env.performance.now(); }
}

function parseFrame(data) {
  try {
    const frame = JSON.parse(data);
    return typeof frame === 'object' && !Array.isArray(frame) ? frame : null;
  } catch { return null; }
}
