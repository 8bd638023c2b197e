// Elements. Everything from other users becomes text, never markup.

import { lang, t } from './texts.js';

export const $ = (id) => document.getElementById(id);

/** Makes an element. Strings among the children become text. */
export function el(tag, className, ...children) {
  const node = document.createElement(tag);
  node.className = className;
  node.append(...children);
  return node;
}

/** Changes the page only if the text is new: a screen reader would read out the same text again. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Fills a template; each value is isolated, so that a name can't reorder the words around it. */
export function phrase(template, values = {}) {
  return template.split(/\{(\w+)\}/).map((part, i) => (i % 2 ? el('bdi', '', String(values[part])) : part));
}

export function translate() {
  const each = (key, apply) => document.querySelectorAll(`[data-${key}]`).forEach(apply);
  document.documentElement.lang = lang;
  each('t', (node) => { node.textContent = t[node.dataset.t]; });
  each('t-placeholder', (node) => { node.placeholder = t[node.dataset.tPlaceholder]; });
  each('t-label', (node) => { node.ariaLabel = t[node.dataset.tLabel]; });
}

/** Shows a picture of a name: its initials on its colour, which is the same for everybody (FNV-1a). */
export function showAvatar(node, name) {
  setText(node, initials(name) || '?');
  node.style.setProperty('--hue', hue(name));
}

export function avatar(name) {
  const node = el('span', 'avatar');
  node.ariaHidden = 'true';
  showAvatar(node, name);
  return node;
}

export function hue(text) {
  let hash = 0x811c9dc5;
  for (const char of text) hash = Math.imul(hash ^ char.codePointAt(0), 0x01000193);
  return (hash >>> 0) % 360;
}

function initials(text) {
  const words = text.trim().split(/\s+/).filter(Boolean);
  const letters = /^\p{Script=Latin}/u.test(text) ? words.slice(0, 2) : words.slice(0, 1);
  return letters.map((word) => [...word][0]).join('').toUpperCase();
}

/** Makes the children of `list` the nodes of these keys, in this order. Nodes that stay keep their focus. */
export function showList(list, keys, nodes, create) {
  for (const [key, node] of nodes) {
    if (keys.includes(key)) continue;
    node.remove();
    nodes.delete(key);
  }
  keys.forEach((key, i) => {
    if (!nodes.has(key)) nodes.set(key, create(key));
    if (list.children[i] !== nodes.get(key)) list.insertBefore(nodes.get(key), list.children[i] ?? null);
  });
}
