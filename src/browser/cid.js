// The ids of messages.

/** 96 random bits: others must not be able to guess and use a cid before its message is in the room. */
export function randomCid(crypto) {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
