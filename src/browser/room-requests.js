// The rooms of one connection: entering, leaving, and the server's answers.

import { ChatError } from './errors.js';
import { RequestQueue } from './request-queue.js';

/** Refusals of a request for a page of the roster. */
const OF_PAGES = new Set(['bad_shape', 'rate_limited', 'internal']);
/** After this many milliseconds the client asks again for a page that was refused. */
const PAGE_RETRY = 1_000;

/** Enters and leaves rooms, resumes the session, and passes the server's answers to the memberships. */
export class RoomRequests {
  /** The memberships by room id. */
  #rooms;
  #session;
  #directs;
  #auth;
  #unanswered;
  #transients;
  #budget;
  /** The connection's resume token. */
  #token;
  #on;
  #queue;
  #hasEntered = false;
  #hasEnded = false;

  /**
   * `on` has these handlers: `send(text)`; `transmit(text, cid)` sends a message; `sendUnanswered(text)` sends a frame
   * that the server answers only if it refuses it; `asked()`: an answer is expected;
   * `answered()`: an answer has arrived; `accepted()`: the server has accepted the client; `entered()`: the client is
   * in a room for the first time.
   */
  constructor({ env, rooms, session, directs, auth, unanswered, budget, transients }, token, on) {
    this.#rooms = rooms;
    this.#session = session;
    this.#directs = directs;
    this.#auth = auth;
    this.#unanswered = unanswered;
    this.#transients = transients;
    this.#budget = budget;
    this.#token = token;
    this.#on = on;
    const frame = (kind, id) => this.#frame(kind, id);
    const send = (text, kind) => {
      // Not earlier: the server may have said to send it only after a long time.
      if (kind === 'enter') on.asked();
      on.send(text);
    };
    this.#queue = new RequestQueue({ env, budget, unanswered }, { frame, send });
  }

  /** Whether the client is or was in a room on this connection. */
  get hasEntered() { return this.#hasEntered; }

  /** Whether a resume waits or is unanswered. */
  get isResuming() { return this.#queue.has('resume') || this.#unanswered.has('resume'); }

  /** Resumes the session, if there may be one, and enters all rooms that the client is not in. Nothing has to wait for
   * an answer, because the server handles frames in order. */
  enterAll() {
    if (this.#session.tokensFor(this.#token).length > 0) {
      this.#queue.add('resume');
    } else {
      // The session of a user is kept even if it is in no room.
      this.#session.add(this.#token);
      this.#directs.notResumed();
    }
    for (const [id, membership] of this.#rooms) if (!membership.isInRoom) this.#add(id);
    this.#queue.flush();
  }

  /** Does nothing if an enter waits or is unanswered. */
  enter(id) {
    this.#add(id);
    this.#queue.flush();
  }

  leave(id) {
    if (this.#hasEnded) return;
    this.#queue.cancel('enter', id);
    this.#queue.cancel('members', id);
    // A client that must authenticate is in no room.
    if (!this.#auth.isNeeded) this.#queue.addLeave(id);
    this.#queue.flush();
  }

  /** Sends a ping, unless another request will be answered. */
  pingUnlessAsked() {
    if (['resume', 'enter'].some((kind) => this.#unanswered.count(kind) > 0) || !this.#queue.isEmpty) return;
    this.#queue.add('ping');
    this.#queue.flush();
  }

  stop() {
    this.#hasEnded = true;
    this.#queue.stop();
  }

  // ---- Answers of the server -------------------------------------------------------------------

  resumed({ rooms, ...session }) {
    this.#unanswered.answered('resume');
    this.#directs.resumed(session);
    this.#session.keepOnly(this.#token);
    this.#on.accepted();
    this.#on.answered();
    const ids = Array.isArray(rooms) ? rooms.map(({ roomId }) => roomId) : [];
    for (const id of ids) if (!this.#rooms.has(id) && !this.#queue.isLeaving(id)) this.leave(id);
  }

  entered(answer) {
    const { roomId: id } = answer;
    const isStale = this.#queue.isLeaving(id);
    if (isStale) this.#unanswered.remove('enter', id);
    else this.#unanswered.answered('enter', id);
    this.#session.keepOnly(this.#token);
    if (this.#queue.has('resume')) {
      // The client is in a room without it.
      this.#queue.cancel('resume');
      this.#directs.notResumed();
    }
    this.#on.accepted();
    this.#on.answered();
    this.#queue.accepted();
    if (isStale) return;
    const membership = this.#rooms.get(id);
    if (!membership) return this.leave(id);
    if (!this.#hasEntered) this.#on.entered();
    this.#hasEntered = true;
    membership.entered(answer, {
      transmit: this.#on.transmit,
      transients: this.#transients,
      budget: this.#budget,
      sendUnanswered: this.#on.sendUnanswered,
      askForPage: () => this.#askForPage(id),
    });
  }

  /** Takes a page of a room's roster. */
  page(frame) {
    const { roomId: id } = frame;
    this.#unanswered.remove('members', id);
    if (!this.#queue.isLeaving(id)) this.#rooms.get(id)?.page(frame);
  }

  /** The client is no longer in a room. `wait` is the time after which to enter again; null if the server has not said.
   * */
  left({ roomId: id, code, message }, wait) {
    if (code === 'token_expired') this.#auth.expired();
    if (this.#queue.isLeaving(id)) {
      if (code === undefined) this.#unanswered.remove('leave', id);
      return;
    }
    this.#queue.cancel('members', id);
    const membership = this.#rooms.get(id);
    if (!membership) return;
    // At a resumption, this may be the answer to an enter. An enter after the token has expired gets its own answer.
    const isAnswer = code !== 'token_expired' && this.#unanswered.answered('enter', id);
    if (isAnswer) this.#on.answered();
    if (!membership.isInRoom && !isAnswer) return;
    membership.removed(new ChatError(String(code ?? 'internal'), String(message ?? 'removed from the room')), wait);
  }

  /** A frame about a room that is not a message was refused. `wait` is the time after which to try again; null if the
   * server has not said. */
  refused(id, error, wait) {
    // If the client is no longer in the room, the server has said or will say so.
    if (error.code === 'not_entered') return this.#unanswered.remove('members', id);
    const oldest = this.#unanswered.oldestOf(id);
    if (oldest === 'members' && OF_PAGES.has(error.code)) return this.#pageRefused(id, error, wait);
    const membership = this.#rooms.get(id);
    const isEntering = oldest === 'enter' || this.#unanswered.isEntering(id);
    if (!isEntering && membership?.isInRoom) return membership.frameRefused(error);
    this.#enterRefused(id, error, wait);
  }

  #pageRefused(id, error, wait) {
    this.#unanswered.remove('members', id);
    if (error.code === 'rate_limited') return this.repeat('members', id);
    this.#rooms.get(id)?.pageRefused(error.code === 'bad_shape' ? null : wait ?? PAGE_RETRY);
  }

  #enterRefused(id, error, wait) {
    const isStale = this.#queue.isLeaving(id);
    const isRate = error.code === 'rate_limited';
    // If a rate was exceeded, the server may not have read what was sent before, either.
    if (isStale || isRate) this.#unanswered.remove('enter', id);
    else this.#unanswered.answered('enter', id);
    if (isRate) this.#queue.postpone(wait ?? 0);
    else this.#on.accepted();
    this.#on.answered();
    this.#queue.flush();
    if (!isStale) this.#rooms.get(id)?.refused(error, wait);
  }

  /** The server has not read a request other than an enter. */
  repeat(kind, id) {
    this.#unanswered.remove(kind, id);
    // A room that was joined again meanwhile must not be left.
    const isOutdated = kind === 'leave' ? this.#rooms.has(id) : kind === 'members' && !this.#rooms.get(id)?.isInRoom;
    if (!isOutdated) this.#queue.repeat(kind, id);
    this.#on.answered();
  }

  #add(id) {
    if (this.#hasEnded || !this.#queue.addEnter(id)) return;
    this.#rooms.get(id).enterStarted();
  }

  #askForPage(id) {
    if (this.#hasEnded || this.#queue.has('members', id)) return;
    this.#queue.add('members', id);
    this.#queue.flush();
  }

  /** The frame of a request that is sent now. */
  #frame(kind, id) {
    if (kind === 'leave') return { event: 'leave', roomId: id };
    if (kind === 'members') return this.#rooms.get(id).pageFrame();
    if (kind === 'ping') return { event: 'heartbeat', message: 'ping' };
    const tokens = this.#session.tokensFor(this.#token);
    this.#session.add(this.#token);
    if (kind === 'resume') return { event: 'resume', message: tokens, ...this.#directs.forResume };
    return this.#rooms.get(id).enterFrame();
  }
}
