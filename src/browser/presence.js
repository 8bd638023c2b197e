// Who is in a room, as the application sees it.

import { Roster } from './roster.js';
import { Timer } from './timer.js';

/** If the mode of a room has changed for all clients, they spread their requests over this many milliseconds. */
const SPREAD = 1_000;

/** Keeps the number and the roster of the members of a room. */
export class Presence {
  #env;
  #events;
  /** How many members to ask for. */
  #limit;
  #own;
  #roster;
  #mode = null;
  #num = 0;
  #users = 0;
  /** Asks for a page of the roster; null while the client is not in the room. */
  #ask = null;
  /** The page that the client has asked for: `first`, `next`, or null. */
  #asked = null;
  #cursor;
  /** Whether the page that the client has asked for is no longer useful. */
  #isStale = false;
  #timer;
  #isDelayed = false;
  #isTelling = false;
  #hasEnded = false;
  /** What the application sees; null if something has changed since. */
  #snapshot = null;

  /** `limit` is the number of members to ask for. `own.member()` is the id of the own member, and `own.state(state)` is
   * its state if the server has `state`. */
  constructor({ env, events }, limit, own) {
    this.#env = env;
    this.#events = events;
    this.#limit = limit;
    this.#own = own;
    this.#timer = new Timer(env);
    this.#roster = new Roster({ isOwn: (id) => id === own.member(), ownState: own.state });
  }

  get num() { return this.#num; }

  /** The own member; null if it is not in the roster. */
  get self() { return this.#roster.get(this.#own.member()); }

  get snapshot() {
    const { isComplete: complete } = this.#roster;
    this.#snapshot ??= Object.freeze({
      mode: this.#mode,
      num: this.#num,
      users: complete ? this.#roster.users : this.#users,
      members: this.#roster.list,
      complete,
      self: this.self,
    });
    return this.#snapshot;
  }

  /** The client is in the room. `ask()` asks for the page of `pageFrame`. */
  entered(answer, ask) {
    // If the client was in the room already, the answer to an earlier request may still come.
    const isAsking = this.#ask !== null && this.#asked !== null;
    if (!isAsking) this.left();
    this.#isStale = isAsking;
    this.#ask = ask;
    this.#take(answer);
    if (this.#mode !== 'full') return this.#forget();
    this.#roster.fill(answer);
    this.#continue(answer.next);
  }

  /** The client is not in the room any more. */
  left() {
    this.#ask = null;
    this.#asked = null;
    this.#isStale = false;
    this.#stopDelay();
    this.#roster.doubt();
    this.#changed();
  }

  /** The request for the page that the client has asked for. */
  pageFrame(roomId) {
    return { event: 'members', roomId, ...(this.#asked === 'next' && { after: this.#cursor }) };
  }

  /** Takes a page. */
  page(frame) {
    const asked = this.#asked;
    this.#asked = null;
    this.#take(frame);
    if (this.#mode !== 'full') return this.#forget();
    if (this.#isStale) return this.#askAnew();
    if (asked === 'first') this.#roster.fill(frame);
    else if (asked === 'next') this.#roster.add(frame);
    if (asked) this.#continue(frame.next);
  }

  /** The server has refused to send a page. Asks again after `wait` milliseconds, unless `wait` is null. */
  pageRefused(wait) {
    this.#asked = null;
    this.#roster.doubt();
    this.#changed();
    if (wait !== null) this.#askLater(wait);
  }

  /** Takes a frame of the room that is not part of a replay. */
  receive({ event, num, member, ...frame }) {
    if (Number.isInteger(num) && num !== this.#num) {
      this.#num = num;
      this.#changed();
    }
    if (event !== 'enter' && event !== 'out') return;
    if (event === 'enter') this.#roster.enter({ ...frame, member });
    else this.#roster.out(member);
    this.#changed();
  }

  /** Takes a `state` frame: a member has changed. */
  memberChanged(frame) {
    this.#roster.change(frame);
    this.#changed();
  }

  ownStateChanged() {
    this.#roster.changeOwn(this.#own.member(), this.#own.state(undefined));
    this.#changed();
  }

  /** Takes a `presence` frame. */
  told(frame) {
    const before = this.#mode;
    this.#take(frame);
    if (this.#mode !== 'full') {
      this.#stopDelay();
      this.#forget();
    } else if (before === 'full') {
      this.doubt();
    } else {
      this.#forget();
      this.#askLater(this.#env.Math.random() * SPREAD);
    }
  }

  /** The client may have missed a change of the roster. */
  doubt() {
    if (this.#mode !== 'full') return;
    this.#roster.doubt();
    this.#changed();
    if (this.#limit > 0) this.#askAnew();
    else this.#forget();
  }

  end() {
    this.#hasEnded = true;
    this.left();
  }

  /** Asks for the first page, which is correct no matter what was missed before it. */
  #askAnew() {
    if (this.#asked === 'next') {
      this.#isStale = true;
    } else if (this.#asked === null && !this.#isDelayed) {
      this.#isStale = false;
      this.#request('first');
    }
  }

  #forget() {
    this.#roster.forget();
    this.#isStale ||= this.#asked === 'next';
  }

  #askLater(delay) {
    if (this.#limit === 0) return;
    this.#isDelayed = true;
    this.#timer.arm(delay, () => {
      this.#isDelayed = false;
      this.#askAnew();
    });
  }

  #stopDelay() {
    this.#isDelayed = false;
    this.#timer.stop();
  }

  #continue(next) {
    if (next === undefined || this.#asked !== null || this.#roster.size >= this.#limit) return;
    this.#cursor = next;
    this.#request('next');
  }

  #request(page) {
    if (!this.#ask) return;
    this.#asked = page;
    this.#ask();
  }

  #take({ mode, num, users }) {
    this.#mode = ['full', 'count', 'quiet'].includes(mode) ? mode : null;
    if (Number.isInteger(num)) this.#num = num;
    if (Number.isInteger(users)) this.#users = users;
    this.#changed();
  }

  /** Tells the application, once for all changes in the same task. */
  #changed() {
    this.#snapshot = null;
    if (this.#isTelling) return;
    this.#isTelling = true;
    queueMicrotask(() => {
      this.#isTelling = false;
      if (!this.#hasEnded && this.#events.has('presence')) this.#events.emit('presence', this.snapshot);
    });
  }
}
