// The tokens that the application gives.

/** Refused tokens in a row after which the client gives up. */
const MAX_REFUSALS = 3;

/** Gives tokens, and counts how many of them the server refuses. */
export class TokenSource {
  #given;
  /** Refused tokens in a row. */
  #refusals = 0;

  /** `given` is a token, a function that returns one, or nothing. */
  constructor(given) { this.#given = given; }

  get isFunction() { return typeof this.#given === 'function'; }

  /** Whether there is another token after one that was refused. */
  get hasAnother() { return this.isFunction && this.#refusals < MAX_REFUSALS; }

  /** A token, or a promise of one if the application gave a function. */
  next() { return this.isFunction ? this.#ask() : this.#given; }

  countRefusal() { this.#refusals += 1; }

  resetRefusals() { this.#refusals = 0; }

  async #ask() { return this.#given(); }
}
