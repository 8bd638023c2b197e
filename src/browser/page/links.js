// Links in messages.

import { el } from './dom.js';

/** Characters that change the direction of the text could make the address look like another one. */
const ADDRESS = /\bhttps?:\/\/[^\s<>"'`“”‘’「」『』《》（）\p{Bidi_Control}]+/giu;
const TRAILING = '.,;:!?…。，；：！？、*_~';
/** Closing brackets, and those that open them. */
const OPENED_BY = { ')': '(', ']': '[', '}': '{' };

/** The text in parts, with links for web addresses. */
export function withLinks(text) {
  const parts = [];
  let end = 0;
  for (const { 0: found, index } of text.matchAll(ADDRESS)) {
    const address = trimmed(found);
    if (!isPlain(address)) continue;
    parts.push(text.slice(end, index), link(address));
    end = index + address.length;
  }
  return [...parts, text.slice(end)].filter((part) => part !== '');
}

/** The address without the punctuation of the sentence around it. Looks at each character only twice, because a message
 * may be long. */
function trimmed(address) {
  const counts = {};
  for (const char of address) counts[char] = (counts[char] ?? 0) + 1;
  let end = address.length;
  for (; end > 0; end -= 1) {
    const last = address[end - 1];
    const isSurplus = last in OPENED_BY && counts[last] > (counts[OPENED_BY[last]] ?? 0);
    if (!isSurplus && !TRAILING.includes(last)) break;
    counts[last] -= 1;
  }
  return address.slice(0, end);
}

/** Excludes `https://bank.example@elsewhere.example`, which leads to a different site than it seems to. */
function isPlain(address) {
  const { protocol, username, password, hostname } = parsed(address);
  return /^https?:$/.test(protocol) && hostname !== '' && username === '' && password === '';
}

function parsed(address) {
  try {
    return new URL(address);
  } catch { return {}; }
}

function link(address) {
  const node = el('a', '', address);
  node.href = address;
  node.target = '_blank';
  node.rel = 'noopener noreferrer nofollow ugc';
  node.dir = 'ltr';
  return node;
}
