// The session: what the client keeps to continue it on its next connection.

/** The maximum number of resume tokens that a server reads. */
const MAX_RESUME_TOKENS = 8;

export class Session {
  /** The resume tokens of connections that may have the session, oldest first. */
  #tokens = [];

  /** The tokens to resume with on the connection with this token. */
  tokensFor(ownToken) { return this.#tokens.filter((token) => token !== ownToken); }

  /** A `resume` or an enter is under way on the connection with this token. */
  add(token) {
    if (!token || this.#tokens.includes(token)) return;
    this.#tokens.push(token);
    // The first token is of the last connection that is known to have had the session, which it still has if nothing
    // that was sent since then has arrived. Otherwise one of the latest connections has it.
    if (this.#tokens.length > MAX_RESUME_TOKENS) this.#tokens.splice(1, 1);
  }

  /** The connection with this token has the session. */
  keepOnly(token) { this.#tokens = token ? [token] : []; }
}
