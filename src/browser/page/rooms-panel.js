// The list of rooms, and the form to join another.

import { $, el, setText, showList } from './dom.js';
import { explain, fill, otherName, roomTitle, t } from './texts.js';

const MOST_COUNTED = 99;

const rows = new Map();

/** Shows the rooms of a session. `select(view)` is called for the one that the user chooses. */
export function showRooms(views, current, select) {
  showList($('rooms'), [...views.keys()], rows, () => roomRow());
  for (const [id, row] of rows) {
    const view = views.get(id);
    const [button] = row.children;
    const [title, badge] = button.children;
    setText(title, roomTitle(id));
    showBadge(badge, view.unread);
    button.ariaCurrent = view === current ? 'true' : null;
    button.dataset.state = view.state;
    button.onclick = () => select(view);
  }
}

export function showBadge(node, count) {
  setText(node, count > MOST_COUNTED ? `${MOST_COUNTED}+` : count > 0 ? String(count) : '');
  node.hidden = count === 0;
  node.ariaLabel = fill(t.unread, { num: count });
}

/** Says why a room could not be joined, and offers a way that may work. */
export function showJoinProblem(error, view, joinAs) {
  const isTaken = error?.code === 'name_taken';
  const other = isTaken && otherName(view.name);
  $('join-problem').hidden = !error;
  setText($('join-problem'), error ? fill(t.notJoined, { room: roomTitle(view.id), reason: explain(error) }) : '');
  $('join-other-name').hidden = !isTaken;
  if (!isTaken) return;
  setText($('join-other-name'), fill(t.joinAs, { name: other }));
  $('join-other-name').onclick = () => joinAs(other);
}

/** Closes the panels that cover the page on a small screen. */
export function closePanels() {
  for (const id of ['rooms-panel', 'members-panel']) {
    if ($(id).matches(':popover-open')) $(id).hidePopover();
  }
}

function roomRow() {
  const badge = el('span', 'badge');
  badge.role = 'img';
  const button = el('button', 'room', el('bdi', ''), badge);
  button.type = 'button';
  return el('li', '', button);
}
