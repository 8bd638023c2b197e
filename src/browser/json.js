// JSON texts as the server accepts them.

/** Replaces lone surrogates in JSON. The server could not read the frame, and its error would be taken for the answer
 * to another one. */
export function wellFormed(json) {
  return json.replace(/\\(?:ud[89a-f]..|.)/g, (escape) => (escape.length === 6 ? '\ufffd' : escape));
}

/** The objects in an array; none if it is not an array. */
export function objectsIn(array) {
  if (!Array.isArray(array)) return [];
  return array.filter((item) => typeof item === 'object' && item !== null && !Array.isArray(item));
}

/** The length of a text in bytes of UTF-8. */
export function byteLength(text) { return new TextEncoder().encode(text).length; }
