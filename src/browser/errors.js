// Errors and close codes.

/** Why something failed or ended: a code for programs, a text for people. */
export class ChatError extends Error {
  constructor(code, message, { closeCode = null, cause } = {}) {
    super(message, { cause });
    this.name = 'ChatError';
    this.code = code;
    this.closeCode = closeCode;
  }
}

/** The client leaves: its session ends immediately. */
export const CLOSE_LEFT = 1000;
/** The client drops the connection and comes back: its session is kept for the resume window. */
export const CLOSE_LOST = 4000;
/** The server closes a connection on which no room was entered in time. */
export const CLOSE_NEVER_ENTERED = 4002;

/** Whether a client whose connection was closed with this code may come back. */
export function mayReturn(code) {
  return [1001, 1006, 1011, 1012, 1013].includes(code) || (code >= 4000 && code <= 4499);
}

/** The error after this many failed attempts. `reason` is the error of the last one. */
export function gaveUp(attempts, reason) {
  const text = `gave up after ${attempts} attempts: ${reason.message}`;
  return new ChatError('gave_up', text, { closeCode: reason.closeCode, cause: reason });
}
