// A room, as the application sees it.

import { readEvent, readHistoryOptions, readSendOptions } from './options.js';
import { readState } from './own-state.js';

/** The application's view of a membership. */
export class Room {
  #membership;

  constructor(membership) { this.#membership = membership; }

  get id() { return this.#membership.id; }
  get state() { return this.#membership.state; }
  get reason() { return this.#membership.reason; }
  get retryAt() { return this.#membership.retryAt; }
  get online() { return this.#membership.presence.num; }
  get name() { return this.#membership.progress.name; }
  get member() { return this.#membership.progress.member; }
  get presence() { return this.#membership.presence.snapshot; }
  get readOnly() { return this.#membership.isReadOnly; }
  get hidden() { return this.#membership.isHidden; }
  get position() { return this.#membership.progress.position; }

  on(type, handler) { return this.#membership.events.on(type, handler); }

  async send(message, options) { return this.#membership.send(message, readSendOptions(options)); }

  async history(options) { return this.#membership.history(readHistoryOptions(options)); }

  sendTransient(event, message) { return this.#membership.sendTransient(readEvent(event), message); }

  setState(state) { this.#membership.setState(readState(state, 'setState(state)')); }

  enter() { this.#membership.enter(); }

  leave() { this.#membership.leave(); }
}

/** A room that `connect` has entered, with the connection. */
export class OnlyRoom extends Room {
  #chat;

  constructor(membership, chat) {
    super(membership);
    this.#chat = chat;
  }

  async sendTo(user, message, extra) { return this.#chat.sendTo(user, message, extra); }

  authenticate() { this.#chat.authenticate(); }
}
