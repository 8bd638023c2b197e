// A room that the user is in, with its log and everything else that the page shows of it.

import { messageTime } from '../message-time.js';
import { Log } from './log.js';
import { recallMembers, rememberMember } from './storage.js';
import { explain, t } from './texts.js';
import { Typists } from './typing.js';

/** Earlier times of messages are ignored. */
const EARLIEST = Date.UTC(2020);
/** How far ahead the clock of another computer may be, in milliseconds. */
const CLOCK_SKEW = 60_000;

/** How many earlier messages are read at a time. */
const PAGE = 50;

export class RoomView {
  id;
  /** The name to enter under; then the one that the server has given. */
  name;
  draft;
  log;
  typists;
  state = 'connecting';
  retryAt = null;
  failure = null;
  hasEntered = false;
  /** Messages that the user hasn't seen. */
  unread = 0;
  #on;
  #room = null;
  #leaving = new AbortController();
  /** Rows of messages that are acknowledged but haven't come from the room, by id. */
  #awaited = new Map();
  #hasUnsent = false;
  #isReading = false;
  /** The id of the message before which there are no others; null if that is not known. */
  #beginId = null;
  /** The id before which messages could not be read; null once it makes sense to try again. */
  #failedId = null;

  /** `on` has these handlers: `changed()`, and `isSeen(view)`, which says whether the user sees its log. */
  constructor({ id, name, draft = '' }, on) {
    Object.assign(this, { id, name, draft });
    this.#on = on;
    this.log = new Log(on.changed, () => this.#readEarlier());
    this.typists = new Typists(on.changed);
  }

  get isOver() { return this.hasEntered && this.state === 'closed'; }
  /** What the user has written and the server has not acknowledged. */
  get unsent() { return [...this.log.pendingTexts, this.draft].filter(Boolean).join('\n'); }
  get isReadOnly() { return this.#room?.readOnly === true; }
  get online() { return this.#room?.online ?? 0; }
  /** What the client knows about the members, once it has entered. */
  get presence() { return this.#room?.presence; }

  /** Options to join the room with. */
  get options() {
    const ifHere = (handle) => (...args) => {
      if (this.#leaving.signal.aborted) return; // A room that was left may still report something.
      handle(...args);
      this.#on.changed();
    };
    return {
      name: this.name,
      signal: this.#leaving.signal,
      on: {
        state: ifHere((change) => this.#stateChanged(change)),
        '*': ifHere((frame, info) => this.#received(frame, info)),
        presence: ifHere(() => {}),
        readOnly: ifHere(() => {}),
        gap: ifHere(() => this.#missed()),
        error: ifHere((error) => this.addError(error)),
      },
    };
  }

  /** The room was entered for the first time. */
  entered(room) {
    this.#room = room;
    this.hasEntered = true;
    this.name = room.name;
    this.#rememberMember();
    this.log.addWelcome(this.name);
  }

  leave() {
    this.#leaving.abort();
    this.typists.clear();
  }

  enterAgain() { this.#room.enter(); }

  setState(state) { this.#room?.setState(state); }

  /** Without a connection the message waits and is sent later. */
  send(text) {
    const row = this.log.addPending(this.name, text);
    this.log.unmark();
    const sent = this.#room.send(text, { at: Date.now() });
    sent.then((answer) => this.#acknowledged(row, answer), (error) => this.#takeBack(row, text, error));
  }

  sendTyping() {
    if (this.state === 'online') this.#room.sendTransient('typing', true);
  }

  /** The user sees the log. */
  seen() {
    if (this.unread === 0) return;
    this.unread = 0;
    this.log.showUnread();
  }

  /** Shows a frame that concerns no room. */
  addDirect({ from, message }) { this.#addNotice(from?.name ?? from?.user, textOf(message)); }

  addError(error) { this.log.addLine('error', '{reason}', { reason: explain(error) }); }

  /** Adds earlier messages before those that are shown. */
  async #readEarlier() {
    const { firstId } = this.log;
    if (this.#isReading || this.state !== 'online') return;
    if ([null, this.#beginId, this.#failedId].includes(firstId)) return;
    this.#isReading = true;
    try {
      const { messages, more } = await this.#room.history({ before: firstId, limit: PAGE });
      if (this.#leaving.signal.aborted) return;
      this.log.prepend((first) => {
        for (const frame of messages) this.#addMessage(frame, { own: false, replayed: false, history: true }, first);
      });
      if (!more || messages.length === 0) this.#beginId = this.log.firstId;
    } catch (error) {
      if (this.#leaving.signal.aborted) return;
      this.#failedId = firstId;
      // The host may not let everybody read.
      if (error.code === 'denied') this.#beginId = firstId;
      else if (error.code !== 'closed') this.addError(error);
    } finally {
      this.#isReading = false;
    }
  }

  // ---- What the room reports -------------------------------------------------------------------

  #stateChanged({ state, reason, retryAt }) {
    const before = this.state;
    Object.assign(this, { state, retryAt, failure: reason });
    if (state === 'online') this.#failedId = null;
    else this.typists.clear();
    if (!this.hasEntered) return;
    if (state === 'closed') this.addError(reason);
    else if (state === 'online') this.log.addLine('notice', before === 'outside' ? t.backInRoom : t.again);
    else if (state === 'outside' && (before !== 'outside' || !retryAt)) this.addError(reason);
    else if (before === 'online') this.log.addLine('notice', reason.closeCode === 1012 ? t.restart : t.lost);
    if (state === 'online') this.#rememberMember();
  }

  #received(frame, info) {
    const { event, member, name = '', message } = frame;
    const text = textOf(message);
    if (event === 'typing') return this.typists.heard(frame);
    if (member !== undefined && !info.history) this.typists.stopped(member);
    if (event === 'enter') return info.own ? undefined : this.log.addLine('enter', t.joined, { name });
    if (event === 'out') return this.log.addLine('out', t.left, { name });
    if (event === 'message' && name) return this.#addMessage(frame, info);
    this.#addNotice(name, text);
  }

  #addNotice(name, message) {
    if (message) this.log.addLine('notice', name ? t.says : '{message}', { name, message });
  }

  #addMessage({ event, name, member, message, seq, id, at }, { own, replayed, history }, first = null) {
    const text = textOf(message);
    if (event !== 'message' || !name) return; // A page of the history has other events, too.
    // Messages from a store have no `seq`, and the ids of their members are those of no others.
    const epoch = seq === undefined ? undefined : this.#room?.position?.epoch ?? null;
    const isOwn = own || (history && recallMembers(this.id, epoch).includes(member));
    this.#awaited.get(id)?.remove();
    this.#awaited.delete(id);
    if (!isOwn && !history && !this.#on.isSeen(this)) {
      if (this.unread === 0) this.log.markUnread();
      this.unread += 1;
    }
    this.log.addMessage({
      id, sender: `${member ?? ''} ${name}`, name, text, own: isOwn, isEarlier: history, first,
      at: history || replayed ? sentAt(id, at) : Date.now(),
    });
  }

  /** After a gap, acknowledged messages may not come from the room: until they do, their rows stay where they are. */
  #missed() {
    this.log.addLine('notice', t.gap);
    for (const row of this.#awaited.values()) row.dataset.kind = 'message';
  }

  #acknowledged(row, { seq, id }) {
    // After a crash of the server, the log may already show it, from the store.
    if (this.#room.position.seq >= seq || this.log.has(id)) row.remove();
    else this.#awaited.set(id, row);
  }

  /** Puts what was not sent back into the input field. */
  #takeBack(row, text, error) {
    row.remove();
    this.draft = [this.draft, text].filter(Boolean).join('\n');
    if (this.#leaving.signal.aborted) return;
    if (error.code !== 'closed') this.addError(error);
    else if (!this.#hasUnsent) this.log.addLine('notice', t.unsent);
    this.#hasUnsent ||= error.code === 'closed';
    this.#on.changed();
  }

  #rememberMember() {
    const { member, position } = this.#room ?? {};
    if (member && position) rememberMember(this.id, position.epoch, member);
  }
}

function textOf(message) { return typeof message === 'string' ? message : JSON.stringify(message) ?? ''; }

/** The time at which a message was sent: by the server's clock, or if its sender gives a plausible one. */
function sentAt(id, at) {
  if (id !== undefined) return messageTime(id).getTime();
  return typeof at === 'number' && at > EARLIEST && at < Date.now() + CLOCK_SKEW ? at : null;
}
