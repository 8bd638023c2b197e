// The list of a room's members.

import { $, avatar, el, setText, showAvatar, showList } from './dom.js';
import { fill, t } from './texts.js';

/** How many members the page shows. More would make it slow. */
const MOST_SHOWN = 200;
const MOST_DETAIL = 60;

const shown = new Map();

/** Hides the members if `presence` is null (the user is not in the room) or if the server does not say the mode. */
export function showMembers(presence, online) {
  const panel = $('members-panel');
  panel.hidden = $('show-members').hidden = !presence?.mode;
  if (!presence?.mode) {
    if (panel.matches(':popover-open')) panel.hidePopover();
    return;
  }
  const members = sorted(presence.members ?? []);
  const some = members.slice(0, MOST_SHOWN);
  const byId = new Map(some.map((member) => [member.id, member]));
  showList($('members'), [...byId.keys()], shown, memberRow);
  for (const [id, row] of shown) update(row, byId.get(id));
  const rest = online - some.length;
  setText($('members-count'), String(online));
  setText($('members-note'), note(presence, rest));
  $('members-note').hidden = $('members-note').textContent === '';
}

function note({ mode, members }, rest) {
  if (mode === 'full') return members && rest > 0 ? fill(t.others, { num: rest }) : '';
  return mode === 'count' ? t.notShown : t.noList;
}

/** Sorts the user first, then other members, then those who are away. */
function sorted(members) {
  const rank = (member) => (member.self ? 0 : isAway(member) ? 2 : 1);
  const byName = (a, b) => String(a.name).localeCompare(String(b.name));
  return [...members].sort((a, b) => rank(a) - rank(b) || byName(a, b));
}

function memberRow() {
  const row = el('li', '', avatar(''), el('span', 'member', el('bdi', 'name'), el('bdi', 'detail')), el('span', 'mark'));
  row.dir = 'auto';
  return row;
}

function update(row, member) {
  const name = String(member.name ?? '');
  const [picture, text, mark] = row.children;
  showAvatar(picture, name);
  setText(text.firstChild, name);
  setText(text.lastChild, detail(member.info));
  setText(mark, member.self ? t.you : isAway(member) ? t.away : '');
  row.classList.toggle('away', isAway(member));
  row.title = name;
}

function isAway({ state }) { return state?.away === true; }

/** The info of a member, if it is a text or has a title. */
function detail(info) {
  const text = typeof info === 'string' ? info : info?.title;
  return typeof text === 'string' ? text.slice(0, MOST_DETAIL) : '';
}
