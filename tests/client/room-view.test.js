// The log of a room in the chat page.

import assert from 'node:assert/strict';
import test from 'node:test';
import { settled } from './world.js';

/** The parts of an element that the page needs. */
class Element {
  children = [];
  dataset = {};
  parent = null;
  scrollTop = 0;
  scrollHeight = 1_000;
  clientHeight = 100;
  classList = { toggle() {}, remove() {} };
  style = { setProperty() {} };
  #onScroll = null;

  get isConnected() { return true; }
  get childElementCount() { return this.children.length; }
  get firstElementChild() { return this.children[0] ?? null; }
  get lastElementChild() { return this.children.at(-1) ?? null; }
  get previousElementSibling() { return this.parent.children[this.parent.children.indexOf(this) - 1] ?? null; }
  get textContent() { return this.children.map((child) => child.textContent ?? child).join(''); }
  set textContent(text) { this.children = [text]; }

  append(...children) { this.children.push(...children); }
  addEventListener(type, handler) { this.#onScroll = handler; }
  insertBefore(child, next) {
    child.parent = this;
    this.children.splice(next ? this.children.indexOf(next) : this.children.length, 0, child);
  }

  remove() { this.parent.children = this.parent.children.filter((child) => child !== this); }

  /** Finds `[data-key]` or `[data-key="value"]` among the children. */
  querySelector(selector) {
    const [, key, value] = /^\[data-(\w+)(?:="(.*)")?\]$/.exec(selector);
    return this.children.find(({ dataset }) => key in dataset && (value === undefined || String(dataset[key]) === value)) ?? null;
  }

  scroll() {
    this.scrollTop = 0;
    this.#onScroll();
  }
}

Object.assign(globalThis, {
  document: { createElement: () => new Element(), querySelector: () => ({ content: '' }), getElementById: () => null },
  location: { search: '?lang=en', pathname: '/' },
  ResizeObserver: class { observe() {} },
  requestAnimationFrame: (task) => task(),
});
globalThis.navigator ??= { language: 'en' };
const { RoomView } = await import('../../src/browser/page/room-view.js');

const message = (text, id, more = {}) => ({ event: 'message', message: text, name: 'bob', member: 'b', id, ...more });
const info = (more = {}) => ({ own: false, replayed: false, history: false, ...more });

/** A view whose room was entered at the position 1. `answers` settles the requests to the room. */
function enter({ isSeen = true } = {}) {
  const view = new RoomView({ id: 'tea', name: 'ann' }, { changed() {}, isSeen: () => isSeen });
  const { on } = view.options;
  const answers = [];
  const ask = (kind) => (...asked) => new Promise((resolve, reject) => { answers.push({ kind, asked, resolve, reject }); });
  const room = { name: 'ann', member: '1', position: { epoch: 'E', seq: 1 }, send: ask('send'), history: ask('history') };
  on.state({ state: 'online', reason: null, retryAt: null });
  const tell = (text, id, more, seq) => {
    if (seq) room.position.seq = seq;
    on['*'](message(text, id, { seq }), info(more));
  };
  const lines = () => view.log.node.children.map(({ dataset: { kind, id }, textContent }) => (kind === 'message' ? id : kind));
  const cameBack = () => {
    on.state({ state: 'reconnecting', reason: { code: 'lost' }, retryAt: null });
    on.state({ state: 'online', reason: null, retryAt: null });
  };
  return { view, room, on, answers, tell, lines, cameBack };
}

test('missed messages from the store come at the end, and count as unread', () => {
  const { view, room, on, tell, lines } = enter({ isSeen: false });
  tell('old', 10, { history: true });
  view.entered(room);
  on.gap({});
  tell('missed', 20, { replayed: true });
  assert.deepEqual([lines(), view.unread, view.log.firstId], [[10, 'enter', 'notice', 'divider', 20], 1, 10]);
});

test('a message that was sent again leaves no row behind if it has come from the store', async () => {
  const { view, room, answers, tell, lines } = enter();
  view.entered(room);
  view.send('mine');
  tell('mine', 20, { own: true, replayed: true });
  assert.deepEqual(lines(), ['enter', 20, 'pending']);
  answers[0].resolve({ seq: 2, id: 20 });
  await settled();
  assert.deepEqual(lines(), ['enter', 20]);
});

test('an acknowledged message leaves no row behind if it comes from the store later', async () => {
  for (const hasGap of [false, true]) {
    const { view, room, on, answers, tell, lines } = enter();
    view.entered(room);
    view.send('mine');
    answers[0].resolve({ seq: 2, id: 20 });
    await settled();
    assert.deepEqual(lines(), ['enter', 'pending']);
    if (hasGap) on.gap({});
    tell('mine', 20, { own: true, replayed: true });
    assert.deepEqual(lines(), ['enter', ...(hasGap ? ['notice'] : []), 20]);
  }
});

test('after an error, earlier messages are read again once there is a reason', async () => {
  const { view, room, answers, tell, cameBack } = enter();
  const scroll = async () => {
    view.log.node.scroll();
    await settled();
    return answers.length;
  };
  const refuse = async (code) => {
    answers.at(-1).reject({ code });
    await settled();
  };
  tell('old', 10, { history: true });
  view.entered(room);
  assert.equal(await scroll(), 1);
  await refuse('unavailable');
  assert.deepEqual([await scroll(), await scroll()], [1, 1]);
  cameBack();
  assert.equal(await scroll(), 2);
  await refuse('unavailable');
  assert.equal(await scroll(), 2);
  view.log.node.querySelector('[data-id="10"]').remove();
  tell('new', 20, {}, 2);
  assert.equal(await scroll(), 3, 'other lines are the first ones now');
  await refuse('denied');
  assert.equal(await scroll(), 3);
  cameBack();
  assert.equal(await scroll(), 3, 'the host does not let this user read');
  assert.deepEqual(answers.map(({ asked: [{ before }] }) => before), [10, 10, 20]);
});
