// The log of a room.

import { avatar, el, hue, phrase } from './dom.js';
import { withLinks } from './links.js';
import { t, timeText } from './texts.js';

const MOST_LINES = 500;
const PENDING = '[data-kind="pending"]';
const GROUP_WITHIN = 5 * 60_000;
/** How close to the end counts as scrolled to the end. */
const NEAR_END = 48;
/** How close to the beginning earlier messages are needed. */
const NEAR_BEGIN = 400;
/** How many further lines fit after the user has read earlier messages. */
const MORE_LINES = 200;

export class Log {
  node = el('div', '');
  /** Whether there are messages below those on the screen. */
  hasNewer = false;
  #changed;
  /** Whether it scrolls to new messages, and whether it causes the next scroll event itself. */
  #pinned = true;
  #scrollDue = false;
  #scrollTop = 0;
  /** The line about the own enter. Earlier messages come before it. */
  #welcome = null;
  #divider = null;
  #reachedBegin;
  #mostLines = MOST_LINES;
  /** Whether earlier messages are being added. */
  #isPrepending = false;

  /** `changed()` is called when `hasNewer` may have changed, and `reachedBegin()` when the user reads the first lines. */
  constructor(changed, reachedBegin) {
    this.#changed = changed;
    this.#reachedBegin = reachedBegin;
    const { node } = this;
    node.id = 'log';
    node.role = 'log';
    node.ariaLive = 'polite';
    node.ariaLabel = t.log;
    node.tabIndex = 0;
    node.addEventListener('scroll', () => this.#onScroll(), { passive: true });
    new ResizeObserver(() => this.#pinned && this.scrollDown()).observe(node);
  }

  /** Replaces another log on the screen. */
  show() {
    const shown = document.getElementById('log');
    if (shown === this.node) return;
    const scrollTop = this.#scrollTop;
    shown.replaceWith(this.node);
    if (this.#pinned) this.scrollDown();
    else this.node.scrollTop = scrollTop;
  }

  addLine(kind, template, values) {
    const row = el('div', '', ...phrase(template, values));
    row.title = timeText(Date.now());
    this.#append(row, kind);
    return row;
  }

  /** Adds the line about the own enter. */
  addWelcome(name) {
    this.#welcome = this.addLine('enter', t.welcome, { name });
  }

  /** The id of the first message that has one; null if there is none. */
  get firstId() {
    const id = this.node.querySelector('[data-id]')?.dataset.id;
    return id === undefined ? null : Number(id);
  }

  /** Whether it shows the message with this id. */
  has(id) { return this.node.querySelector(`[data-id="${id}"]`) !== null; }

  /** Adds earlier messages before all lines: `add(first)` adds each before the line `first`. What is on the screen stays in
   * place, and is not read out. */
  prepend(add) {
    const { node } = this;
    const height = node.scrollHeight;
    node.ariaLive = 'off';
    this.#isPrepending = true;
    add(node.firstElementChild);
    this.#isPrepending = false;
    this.#mostLines = Math.max(this.#mostLines, node.childElementCount + MORE_LINES);
    node.scrollTop += node.scrollHeight - height;
    requestAnimationFrame(() => { node.ariaLive = 'polite'; });
  }

  /** `sender` is the same for messages of one member. `at` is null if it isn't known when the message was sent. An
   * earlier message comes before the line of the own enter, or before the line `first`. */
  addMessage({ id, sender, name, text, own, at, isEarlier, first }) {
    const before = isEarlier && this.#welcome?.isConnected ? this.#welcome : this.node.querySelector(PENDING);
    const next = first ?? before;
    const last = (next ? next.previousElementSibling : this.node.lastElementChild)?.dataset;
    const grouped = last?.kind === 'message' && last.sender === sender && Math.abs((at ?? 0) - last.at) < GROUP_WITHIN;
    const row = messageRow(name, text, at === null ? '' : timeText(at), own, grouped);
    Object.assign(row.dataset, { sender, at: at ?? 0 });
    if (id !== undefined) row.dataset.id = id;
    this.#append(row, 'message', { next, follow: own && !isEarlier });
  }

  /** Adds a message that isn't sent yet. */
  addPending(name, text) {
    const row = messageRow(name, text, t.pending, true, true);
    row.ariaHidden = 'true'; // It is read out when it comes from the room.
    this.#append(row, 'pending', { follow: true });
    return row;
  }

  get pendingTexts() {
    return [...this.node.querySelectorAll(`${PENDING} .text`)].map(({ textContent }) => textContent);
  }

  /** Marks where the messages begin that the user hasn't seen. */
  markUnread() {
    this.unmark();
    this.#divider = el('div', '', el('span', '', t.unreadFrom));
    this.#divider.role = 'separator';
    this.#append(this.#divider, 'divider');
  }

  unmark() {
    this.#divider?.remove();
    this.#divider = null;
  }

  /** Shows the unread messages from their beginning, unless the user has scrolled away from the end before. */
  showUnread() {
    const { node } = this;
    if (!this.#pinned || !this.#divider?.isConnected) return;
    node.scrollTop = this.#divider.offsetTop - 24;
    this.#pinned = this.#isAtEnd();
    this.#setNewer(!this.#pinned);
  }

  scrollDown() {
    this.#pinned = true;
    this.#setNewer(false);
    if (this.#scrollDue || !this.node.isConnected) return;
    this.#scrollDue = true;
    requestAnimationFrame(() => {
      this.#scrollDue = false;
      if (this.#pinned) this.node.scrollTop = this.node.scrollHeight;
    });
  }

  /** Adds a pending message at the end, and everything else before the pending ones. */
  #append(row, kind, { next = this.node.querySelector(PENDING), follow = false } = {}) {
    row.dataset.kind = kind;
    this.node.insertBefore(row, kind === 'pending' ? null : next);
    if (this.#isPrepending) return;
    if (this.node.childElementCount > this.#mostLines) this.#dropOldest();
    if (this.#pinned || follow) this.scrollDown();
    else if (kind === 'message') this.#setNewer(true);
  }

  /** Keeps the rows on the screen in place; not every browser does that by itself. */
  #dropOldest() {
    const height = this.#pinned ? 0 : this.node.scrollHeight;
    this.node.firstElementChild.remove();
    this.node.firstElementChild.classList.remove('grouped');
    if (!this.#pinned) this.node.scrollTop -= height - this.node.scrollHeight;
  }

  #isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.node;
    return scrollHeight - scrollTop - clientHeight < NEAR_END;
  }

  #onScroll() {
    if (this.#scrollDue) return;
    this.#scrollTop = this.node.scrollTop;
    this.#pinned = this.#isAtEnd();
    if (this.#pinned) this.#setNewer(false);
    if (this.node.scrollTop < NEAR_BEGIN) this.#reachedBegin();
  }

  #setNewer(hasNewer) {
    if (this.hasNewer === hasNewer) return;
    this.hasNewer = hasNewer;
    this.#changed();
  }
}

function messageRow(name, text, time, own, grouped) {
  const bubble = el('div', 'bubble', el('span', 'text', ...withLinks(text)), el('time', '', time));
  bubble.dir = 'auto'; // Arabic and Hebrew start on the right.
  const row = el('div', '', avatar(name), el('div', 'body', el('bdi', 'who', name), bubble));
  row.classList.toggle('own', own);
  row.classList.toggle('grouped', grouped);
  row.style.setProperty('--hue', hue(name));
  return row;
}
