// A timer that knows when it is late.

/** A timer that fires this many milliseconds late was held up, and so were the frames behind it. */
const LATE = 500;
/** Browsers store a delay in 31 bits. */
const MAX_DELAY = 0x7fff_ffff;

export class Timer {
  #env;
  #id;

  constructor(env) { this.#env = env; }

  /** Replaces the previous timer. The task is told whether it runs late. */
  arm(delay, task) {
    this.stop();
    const due = this.#env.performance.now() + delay;
    const run = () => task(this.#env.performance.now() - due > LATE);
    this.#id = this.#env.setTimeout(run, Math.min(delay, MAX_DELAY));
  }

  stop() { this.#env.clearTimeout(this.#id); }
}
