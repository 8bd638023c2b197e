// Elements. Ids and names come from clients: everything becomes text, never markup.

export const $ = (id) => document.getElementById(id);

/** Makes an element. Strings among the children become text. */
export function el(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** Changes the page only if the text is new, so that a selection stays. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Shows a text from a client: isolated, so that it cannot reorder what is around it. */
export function clientText(text, empty = '(empty)') {
  return text === '' ? el('i', { className: 'muted' }, empty) : el('bdi', {}, text);
}

/** The address of a view. */
export function address(view, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null);
  const query = new URLSearchParams(given);
  return given.length ? `#${view}?${query}` : `#${view}`;
}

export function link(view, parameters, ...children) {
  return el('a', { href: address(view, parameters) }, ...children);
}

export const roomLink = (id) => link('room', { id }, clientText(id, '(empty id)'));
export const connectionLink = (id) => link('connection', { id }, id);
export const userLink = (id) => (id === null ? el('span', { className: 'muted' }, 'anonymous') : link('users', { find: id }, clientText(id)));
