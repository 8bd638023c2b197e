// What the browser remembers. Storage may be blocked; then nothing is remembered.

/** Unlike the name, the rooms are stored per page. */
const ENTERED = `chat.entered:${location.pathname}`;
const OWN_MEMBERS = `chat.members:${location.pathname}`;
const MOST_IDS = 20;

/** Returns this tab's value, so that two tabs can use two names, or else that of the last tab. */
export function recall(key) {
  try {
    return sessionStorage.getItem(`chat.${key}`) ?? localStorage.getItem(`chat.${key}`) ?? '';
  } catch { return ''; }
}

export function remember(key, value, ...stores) {
  try { for (const store of stores) window[store].setItem(`chat.${key}`, value); } catch { /* as above */ }
}

/**
 * Remembers what this tab has entered (`{ name, room, rooms: [{ id, name, draft }] }`), for the next page that it
 * loads. Called when the page is hidden or left, and with null when it is visible again, so that a tab that is
 * duplicated while it is visible doesn't enter under the same name.
 */
export function rememberEntered(entered) {
  try {
    if (entered) sessionStorage.setItem(ENTERED, JSON.stringify(entered));
    else sessionStorage.removeItem(ENTERED);
  } catch { /* as above */ }
}

/** What this tab had entered before it was reloaded, or null. */
export function recallEntered() {
  const entered = readJson(ENTERED);
  const isRoom = (room) => typeof room?.id === 'string';
  if (typeof entered?.name !== 'string' || !Array.isArray(entered.rooms)) return null;
  const rooms = entered.rooms.filter(isRoom);
  return rooms.length > 0 ? { ...entered, rooms } : null;
}

/** Remembers that this tab is or was this member, so that it recognizes its own messages after a reload. */
export function rememberMember(room, epoch, member) {
  const rooms = readJson(OWN_MEMBERS) ?? {};
  const { ids = [], all = [], ...before } = rooms[room] ?? {};
  const add = (list) => [...list.filter((id) => id !== member), member].slice(-MOST_IDS);
  const entry = { epoch, ids: add(before.epoch === epoch ? ids : []), all: add(all) };
  try { sessionStorage.setItem(OWN_MEMBERS, JSON.stringify({ ...rooms, [room]: entry })); } catch { /* as above */ }
}

/** The members of a room that this tab was, in this epoch or, without one, in all of them. */
export function recallMembers(room, epoch) {
  const entry = readJson(OWN_MEMBERS)?.[room];
  const ids = epoch === undefined ? entry?.all : entry?.epoch === epoch && entry.ids;
  return Array.isArray(ids) ? ids : [];
}

function readJson(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key));
  } catch { return null; }
}
