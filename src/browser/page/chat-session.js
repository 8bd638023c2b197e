// From entering to leaving: one connection with the rooms that the user is in.

import { connect } from '../chat-rooms.js';
import { RoomView } from './room-view.js';
import { setting } from './texts.js';

const HISTORY = 50;

export class ChatSession {
  name;
  token;
  /** The rooms by id, in the order in which they were joined. */
  views = new Map();
  /** Those of the connection. */
  state = 'connecting';
  retryAt = null;
  failure = null;
  #on;
  #chat = null;
  #ending = new AbortController();
  #ownState = null;

  /**
   * `on` has the handlers of a {@link RoomView} and these:
   *
   * * `entered(view)`: the room was entered for the first time;
   * * `refused(error, view)`: the room could not be entered, or without a room, no connection can be made;
   * * `told(frame)`: the host or another user has sent a frame to this user or connection only.
   */
  constructor({ name, token }, on) {
    Object.assign(this, { name, token });
    this.#on = on;
  }

  /** Connects, and enters these rooms. */
  start(rooms) {
    for (const room of rooms) this.join(room);
    const ifOpen = (handle) => (...args) => { if (!this.#ending.signal.aborted) handle(...args); };
    const opening = connect(chatAddress(), {
      token: this.token,
      signal: this.#ending.signal,
      on: {
        state: ifOpen(({ state, reason, retryAt }) => {
          Object.assign(this, { state, retryAt, failure: reason });
          this.#on.changed();
        }),
        error: ifOpen((error) => this.#on.failed(error)),
        '*': ifOpen((frame) => this.#on.told(frame)),
      },
    });
    opening.then(ifOpen((chat) => {
      this.#chat = chat;
      for (const view of this.views.values()) this.#enter(view);
    }), ifOpen((error) => this.#on.refused(error)));
  }

  /** Enters a room, as soon as there is a connection. */
  join({ id, name = this.name, draft }) {
    const view = new RoomView({ id, name, draft }, this.#on);
    this.views.set(id, view);
    if (this.#chat) this.#enter(view);
    return view;
  }

  leave(view) {
    this.views.delete(view.id);
    view.leave();
  }

  /** Leaves all rooms and closes the connection. */
  end() {
    for (const view of this.views.values()) view.leave();
    this.#ending.abort();
  }

  /** Sets the state of this member, in all rooms. */
  setState(state) {
    this.#ownState = state;
    for (const view of this.views.values()) view.setState(state);
  }

  #enter(view) {
    const isHere = () => this.views.get(view.id) === view;
    this.#chat.join(view.id, { ...view.options, history: HISTORY, state: this.#ownState }).then((room) => {
      if (!isHere()) return;
      view.entered(room);
      view.setState(this.#ownState);
      this.#on.entered(view);
    }, (error) => {
      if (!isHere()) return;
      this.leave(view);
      this.#on.refused(error, view);
    });
  }
}

/** See `ChatPage::with_chat_path`. */
function chatAddress() {
  const path = setting('path');
  if (path === '') return location.pathname;
  return new URL(path, `${location.origin}${location.pathname.replace(/\/*$/, '/')}`).href;
}
