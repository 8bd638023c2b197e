// The direct frames of a session of the model of the server.

export class Directs {
  /** The number of the latest frame. */
  latest = 0;
  /** The latest frames, which a returning client may have missed. */
  #kept = [];
  #capacity;

  constructor(capacity) { this.#capacity = capacity; }

  /** Numbers a frame and returns it. */
  add(frame) {
    const numbered = { ...frame, direct: this.latest += 1 };
    this.#kept.push(numbered);
    if (this.#kept.length > this.#capacity) this.#kept.shift();
    return numbered;
  }

  /** The kept frames after this number. */
  after(number) { return this.#kept.filter(({ direct }) => direct > number); }
}
