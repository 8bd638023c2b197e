// The session: the resume tokens with which the next connection can resume it, and until when it can.

/** The maximum number of resume tokens that a server reads. */
const MAX_RESUME_TOKENS = 8;
/** Near the end of the resume window, the longest wait is not reduced below this, in milliseconds. A server that is down
 * would be tried too often. */
const LEAST_LONGEST_WAIT = 1_000;

export class Session {
  /** The resume tokens of connections that may have the session, oldest first. */
  #tokens = [];
  /** When the resume window ends of the last connection that is known to have had the session. */
  #resumableUntil = 0;

  /** The tokens for a `resume` on the connection that has this token. */
  tokensFor(ownToken) { return this.#tokens.filter((token) => token !== ownToken); }

  /** Adds the token of a connection on which a `resume` or an enter is sent. */
  add(token) {
    if (!token || this.#tokens.includes(token)) return;
    this.#tokens.push(token);
    // Keeps the first token, which is of the last connection that is known to have had the session. It still has the
    // session if no later request has arrived. Otherwise one of the latest connections has it.
    if (this.#tokens.length > MAX_RESUME_TOKENS) this.#tokens.splice(1, 1);
  }

  /** Keeps only the token of a connection that is known to have the session. */
  keepOnly(token) { this.#tokens = token ? [token] : []; }

  /** The connection that has this token is lost. If it had the session, the server keeps the session for `resumeWindow`
   * milliseconds. */
  disconnected(token, resumeWindow, now) {
    // If the server has not answered, the session may still be that of an earlier connection, whose window ends sooner.
    const hadSession = this.#tokens.length === 1 && this.#tokens[0] === token;
    if (hadSession) this.#resumableUntil = now + resumeWindow;
  }

  /** The longest time, in milliseconds, to wait before the next attempt to connect. If an attempt fails while the
   * session can be resumed, there is time for another one. */
  longestWait(now) {
    const left = this.#resumableUntil - now;
    return left > 0 ? Math.max(left / 2, LEAST_LONGEST_WAIT) : Infinity;
  }

  /** The session has ended. */
  forget() {
    this.#tokens = [];
    this.#resumableUntil = 0;
  }
}
