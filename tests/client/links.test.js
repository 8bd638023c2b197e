// The links that the chat page finds in messages.

import assert from 'node:assert/strict';
import test from 'node:test';

/** As much of a document as the module needs. */
globalThis.document = {
  createElement: () => ({ append(text) { this.text = text; } }),
  querySelector: () => ({ content: '' }),
};
globalThis.location = { search: '?lang=en' };
globalThis.navigator ??= { language: 'en' };
const { withLinks } = await import('../../src/browser/page/links.js');

/** The texts of the links. */
const linksIn = (text) => withLinks(text).filter((part) => typeof part !== 'string').map(({ href }) => href);

test('punctuation around an address is not part of the link', () => {
  for (const [text, link] of [
    ['(https://a.example/b).', 'https://a.example/b'],
    ['https://a.example/(b)', 'https://a.example/(b)'],
    ['[https://a.example/(b)]).', 'https://a.example/(b)'],
    ['https://a.example/[{(b)}]!?', 'https://a.example/[{(b)}]'],
    ['**https://a.example/b_**', 'https://a.example/b'],
    ['https://a.example/b。', 'https://a.example/b'],
  ]) {
    assert.deepEqual(linksIn(text), [link]);
    assert.equal(withLinks(text).map((part) => part.text ?? part).join(''), text);
  }
});

test('the time that a hostile message takes grows only with its length', () => {
  // A time that is quadratic in the length would be minutes.
  const length = 1_000_000;
  for (const end of [')', '.', '.)', ')]}', '.'.repeat(length / 2) + 'x', '()', '](']) {
    const text = `https://a.example/${end.repeat(Math.ceil(length / end.length))}`;
    assert.ok(linksIn(text).length === 1);
  }
});

test('an address does not contain characters that change the direction of the text', () => {
  for (const char of '\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069') {
    assert.deepEqual(linksIn(`https://a.example/${char}elpmaxe.b//:sptth`), ['https://a.example/']);
    assert.deepEqual(linksIn(`https://${char}elpmaxe.b`), []);
  }
});
