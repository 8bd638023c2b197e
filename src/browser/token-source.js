// The tokens that the application provides.

/** Refused tokens in a row after which the client gives up. */
const MAX_REFUSALS = 3;

/** Provides tokens, and counts how many of them the server refuses. */
export class TokenSource {
  #given;
  /** Refused tokens in a row. */
  #refusals = 0;
  /** The promise of the last token. */
  #last = null;
  #isRepeating = false;

  /** `given` is a token, a function that returns one, or nothing. */
  constructor(given) { this.#given = given; }

  get isFunction() { return typeof this.#given === 'function'; }

  /** Whether there is another token after one that was refused. */
  get hasAnother() { return this.isFunction && this.#refusals < MAX_REFUSALS; }

  /** Returns a token, or a promise of one if the application gave a function. */
  next() {
    if (!this.isFunction) return this.#given;
    if (!this.#isRepeating) this.#last = this.#ask();
    this.#isRepeating = false;
    return this.#last;
  }

  /** No server has read the last token: it is the next one, too. */
  repeat() { this.#isRepeating = true; }

  countRefusal() { this.#refusals += 1; }

  resetRefusals() { this.#refusals = 0; }

  async #ask() {
    const token = await this.#given();
    if (token && typeof token !== 'string') throw new TypeError(`the token must be a string, not ${typeof token}`);
    return token;
  }
}
