// Links in messages.

import { el } from './dom.js';

const ADDRESS = /\bhttps?:\/\/[^\s<>"'`“”‘’「」『』《》（）]+/giu;
const TRAILING = /[.,;:!?…。，；：！？、*_~]+$/u;

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

/** The address without the punctuation of the sentence around it. */
function trimmed(address) {
  for (let rest = address; ; address = rest) {
    rest = address.replace(TRAILING, '');
    for (const [open, close] of ['()', '[]', '{}']) {
      if (rest.endsWith(close) && rest.split(close).length > rest.split(open).length) rest = rest.slice(0, -1);
    }
    if (rest === address) return address;
  }
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
