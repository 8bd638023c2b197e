// Requests that wait for the server's rate limits.

import { Timer } from './timer.js';

/** Sends requests other than messages: enters, leaves, requests for pages of a roster, and requests that concern no
 * room. */
export class RequestQueue {
  #env;
  #timer;
  #budget;
  #unanswered;
  #on;
  /** `{ kind, id }`, in order. */
  #requests = [];
  /** How many enters may be unanswered. Only one after a rate was exceeded, because the server closes the connection
   * after too many refusals. Each accepted enter then allows one more. */
  #window = Infinity;
  #notBefore = 0;

  /** `on` has these handlers: `frame(kind, id)` returns the frame of a request; `send(text, kind)` sends it. */
  constructor({ env, budget, unanswered }, on) {
    this.#env = env;
    this.#timer = new Timer(env);
    this.#budget = budget;
    this.#unanswered = unanswered;
    this.#on = on;
  }

  get isEmpty() { return this.#requests.length === 0; }

  /** Whether such a request waits. */
  has(kind, id = null) { return this.#requests.some((request) => request.kind === kind && request.id === id); }

  /** Adds a request, which `flush` sends. */
  add(kind, id = null) { this.#requests.push({ kind, id }); }

  /** Adds an enter, unless one waits or is unanswered. Returns whether it was added. */
  addEnter(id) {
    if (this.has('enter', id) || this.#unanswered.isEntering(id)) return false;
    this.add('enter', id);
    return true;
  }

  /** Adds a leave, unless one waits. Cancels a waiting enter. */
  addLeave(id) {
    this.cancel('enter', id);
    if (!this.has('leave', id)) this.add('leave', id);
  }

  /** Whether the client is leaving this room, so that its frames and answers are stale. */
  isLeaving(id) { return this.has('leave', id) || this.#unanswered.has('leave', id); }

  cancel(kind, id = null) {
    this.#requests = this.#requests.filter((request) => request.kind !== kind || request.id !== id);
  }

  /** An enter was accepted. */
  accepted() {
    this.#window += 1;
    this.flush();
  }

  /** An enter exceeded a rate. */
  postpone(wait) {
    this.#window = 1;
    this.#notBefore = Math.max(this.#notBefore, this.#env.performance.now() + wait);
    this.flush();
  }

  /** Another request exceeded a rate: it is sent again as soon as possible. */
  repeat(kind, id) {
    this.#budget.drain();
    this.#requests.unshift({ kind, id });
    this.flush();
  }

  flush() {
    this.#timer.stop();
    const left = this.#notBefore - this.#env.performance.now();
    for (const request of [...this.#requests]) {
      const { kind, id } = request;
      if (kind === 'enter' && left > 0) {
        this.#timer.arm(left, () => this.flush());
        continue;
      }
      if (kind === 'enter' && this.#unanswered.count('enter') >= this.#window) continue;
      const text = JSON.stringify(this.#on.frame(kind, id));
      const wait = this.#budget.wait(text.length, { isUrgent: true });
      if (wait > 0) return this.#timer.arm(wait, () => this.flush());
      this.#requests.splice(this.#requests.indexOf(request), 1);
      this.#budget.take(text.length);
      this.#unanswered.add(kind, id);
      this.#on.send(text, kind);
    }
  }

  stop() {
    this.#requests = [];
    this.#timer.stop();
  }
}
