// The session: the resume tokens with which the next connection can resume it.

/** The maximum number of resume tokens that a server reads. */
const MAX_RESUME_TOKENS = 8;

export class Session {
  /** The resume tokens of connections that may have the session, oldest first. */
  #tokens = [];

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

  /** The session has ended. */
  forget() { this.#tokens = []; }
}
