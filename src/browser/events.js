// The handlers of the application.

/** Events of this client. A frame of such a name reaches the handlers of `*` only. */
const CLIENT_EVENTS = new Set(['state', 'gap', 'overflow', 'error', '*']);

export class Events {
  #handlers = new Map();

  /** Returns a function that removes the handler. */
  on(type, handler) {
    const handlers = this.#handlers.get(type) ?? new Set();
    this.#handlers.set(type, handlers.add(handler));
    return () => { handlers.delete(handler); };
  }

  /** A handler that throws does not stop the others; its error is reported as uncaught. */
  emit(type, value, info) {
    for (const handler of [...this.#handlers.get(type) ?? []]) {
      try { handler(value, info); } catch (error) { queueMicrotask(() => { throw error; }); }
    }
  }

  emitFrame(frame, info) {
    if (!CLIENT_EVENTS.has(frame.event)) this.emit(frame.event, frame, info);
    this.emit('*', frame, info);
  }
}
