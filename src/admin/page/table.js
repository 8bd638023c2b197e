// Tables whose rows stay the same elements while their contents change, so that focus and selection stay.

import { address, el } from './dom.js';

/** What a cell shows: a text, or an element. */
function fill(cell, content) {
  const isSame = content instanceof Node
    ? cell.childNodes.length === 1 && cell.firstChild.isEqualNode(content)
    : cell.textContent === String(content) && !cell.firstElementChild;
  if (!isSame) cell.replaceChildren(content);
}

const classes = ({ end, minor }) => [end && 'end', minor && 'minor'].filter(Boolean).join(' ');

export class Table {
  #columns;
  #body = el('tbody');
  #rows = new Map();

  /**
   * Columns: `{ title, end?, minor?, sort?, isSorted?, show(entry) }`. With `sort`, the title is a link to this
   * address. Numbers are at the `end`. Narrow screens hide minor columns. If a table has none, each row becomes a list
   * there.
   */
  constructor(label, columns) {
    this.#columns = columns;
    const heads = columns.map(({ title, sort, isSorted, ...column }) => {
      const head = el('th', { scope: 'col', className: classes(column) }, sort ? el('a', { href: sort }, title) : title);
      if (isSorted) head.ariaSort = column.end ? 'descending' : 'ascending';
      return head;
    });
    this.empty = el('p', { className: 'empty', hidden: true });
    const className = columns.some(({ minor }) => minor) ? '' : 'lists';
    const table = el('table', { ariaLabel: label, className }, el('thead', {}, el('tr', {}, ...heads)), this.#body);
    this.node = el('div', { className: 'table' }, table, this.empty);
  }

  /** Shows these entries, in this order. */
  show(entries, key, empty) {
    const keys = new Set(entries.map(key));
    for (const [old, row] of this.#rows) {
      if (keys.has(old)) continue;
      row.remove();
      this.#rows.delete(old);
    }
    entries.forEach((entry, at) => {
      const row = this.#row(key(entry));
      this.#columns.forEach(({ show }, n) => fill(row.cells[n], show(entry)));
      if (this.#body.rows[at] !== row) this.#body.insertBefore(row, this.#body.rows[at] ?? null);
    });
    this.empty.hidden = entries.length > 0;
    this.empty.textContent = empty;
  }

  #row(key) {
    if (!this.#rows.has(key)) {
      const cells = this.#columns.map((column) => {
        const cell = el('td', { className: classes(column) });
        cell.dataset.title = column.title;
        return cell;
      });
      this.#rows.set(key, el('tr', {}, ...cells));
    }
    return this.#rows.get(key);
  }
}

/** Links to the first and to the next page of a list. The browser's back button leads to the previous pages. */
export class Pager {
  node = el('nav', { className: 'pager', ariaLabel: 'Pages' });

  show(view, parameters, next) {
    const { after, ...others } = parameters;
    const links = [
      after !== undefined && el('a', { href: address(view, others), className: 'button quiet' }, 'First page'),
      next !== null && el('a', { href: address(view, { ...others, after: next }), className: 'button quiet' }, 'Next page'),
    ].filter(Boolean);
    const isSame = links.length === this.node.children.length && links.every((a, n) => a.isEqualNode(this.node.children[n]));
    if (!isSame) this.node.replaceChildren(...links);
    this.node.hidden = links.length === 0;
  }
}

/** A list of facts. */
export class Facts {
  node = el('dl', { className: 'facts' });
  #values = new Map();

  show(facts) {
    for (const [name, content] of facts) {
      if (!this.#values.has(name)) {
        const value = el('dd');
        this.#values.set(name, value);
        this.node.append(el('div', {}, el('dt', {}, name), value));
      }
      fill(this.#values.get(name), content);
    }
  }
}

/** A field that changes a parameter of the view when it is submitted. */
export function searchForm(label, value, go) {
  const field = el('input', { type: 'search', value: value ?? '', placeholder: label, ariaLabel: label, maxLength: 256 });
  const form = el('form', { className: 'search', role: 'search' }, field, el('button', { className: 'quiet' }, 'Find'));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    location.hash = go(field.value);
  });
  return form;
}
