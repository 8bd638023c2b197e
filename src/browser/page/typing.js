// Who is typing, if the server declares the transient event `typing`.

import { phrase } from './dom.js';
import { t } from './texts.js';

const REPEAT_EVERY = 3_000;
const SHOWN_FOR = 5_000;

/** The members of a room who are typing. */
export class Typists {
  #changed;
  /** Name and timer of each by its member id. */
  #members = new Map();

  constructor(changed) { this.#changed = changed; }

  /** A frame says that its member types, or that it doesn't any more. */
  heard({ member, name, message }) {
    if (message !== true) return this.stopped(member);
    clearTimeout(this.#members.get(member)?.timer);
    this.#members.set(member, { name, timer: setTimeout(() => this.stopped(member), SHOWN_FOR) });
    this.#changed();
  }

  stopped(member) {
    clearTimeout(this.#members.get(member)?.timer);
    if (this.#members.delete(member)) this.#changed();
  }

  clear() {
    for (const member of [...this.#members.keys()]) this.stopped(member);
  }

  /** What to show: text and elements. */
  phrase() {
    const [a, b, c] = [...this.#members.values()].map(({ name }) => name);
    if (a === undefined) return [];
    return phrase(t.typing[c !== undefined ? 2 : Number(b !== undefined)], { a, b });
  }
}

/** Tells a room that the user is typing. */
export class TypingHints {
  #toldAt = -Infinity;

  /** `send()` may throw if the server hasn't declared the event. */
  typed(send) {
    if (performance.now() - this.#toldAt < REPEAT_EVERY) return;
    this.#toldAt = performance.now();
    try { send(); } catch { /* not declared */ }
  }

  /** The user has sent a message, which ends the hint. The next input sends a new one immediately. */
  sent() { this.#toldAt = -Infinity; }
}
