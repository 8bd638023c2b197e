// The network and the page, as the browser reports them.

export class Page {
  #env;
  #listeners = new AbortController();

  /**
   * `on` has these handlers:
   *
   * * `woken()`: the network or the page may be back;
   * * `network()`: `isOffline` may have changed;
   * * `left(isRestorable)`: the page is left, and the browser may restore it or not.
   */
  constructor(env, on) {
    this.#env = env;
    this.listen(env, 'online', () => { on.network(); on.woken(); });
    this.listen(env, 'offline', () => on.network());
    this.listen(env, 'pageshow', () => on.woken());
    this.listen(env, 'pagehide', ({ persisted }) => on.left(persisted));
    this.listen(env.document, 'visibilitychange', () => env.document.hidden || on.woken());
  }

  get isOffline() { return this.#env.navigator?.onLine === false; }

  /** Listens until `close`. The target may be missing, or know no events. */
  listen(target, type, handler) {
    target?.addEventListener?.(type, handler, { signal: this.#listeners.signal });
  }

  close() { this.#listeners.abort(); }
}
