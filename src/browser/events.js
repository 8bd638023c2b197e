// The handlers of the application.

/** The info for frames that the host or another user sends to this connection only. */
export const NOT_OF_A_ROOM = Object.freeze({ own: false, replayed: false, history: false });

/** Events of this client. A frame of such a name reaches the handlers of `*` only. */
const CLIENT_EVENTS = new Set(['state', 'gap', 'overflow', 'error', 'presence', 'readOnly', 'directGap', '*']);

export class Events {
  #handlers = new Map();

  /** Returns a function that removes the handler. */
  on(type, handler) {
    const handlers = this.#handlers.get(type) ?? new Set();
    this.#handlers.set(type, handlers.add(handler));
    return () => { handlers.delete(handler); };
  }

  /** Whether there is a handler. */
  has(type) { return (this.#handlers.get(type)?.size ?? 0) > 0; }

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
