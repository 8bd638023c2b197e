// A room, as the application sees it.

import { readEvent, readSendOptions } from './options.js';

/** The application's view of a membership. */
export class Room {
  #membership;

  constructor(membership) { this.#membership = membership; }

  get id() { return this.#membership.id; }
  get state() { return this.#membership.state; }
  get reason() { return this.#membership.reason; }
  get retryAt() { return this.#membership.retryAt; }
  get online() { return this.#membership.progress.online; }
  get name() { return this.#membership.progress.name; }
  get member() { return this.#membership.progress.member; }
  get position() { return this.#membership.progress.position; }

  on(type, handler) { return this.#membership.events.on(type, handler); }

  async send(message, options) { return this.#membership.send(message, readSendOptions(options)); }

  sendTransient(event, message) { return this.#membership.sendTransient(readEvent(event), message); }

  enter() { this.#membership.enter(); }

  leave() { this.#membership.leave(); }
}
