// The form to enter with.

import { $, setText, showAvatar } from './dom.js';
import { askOtherTabs, tellOtherTabs } from './other-tabs.js';
import { recall, remember } from './storage.js';
import { explain, explainFailure, fill, otherName, query, setting, t } from './texts.js';

const [name, room, token, problem] = ['name', 'room', 'token', 'problem'].map($);

/** What the form says: `{ name, room, token }`, or null after telling the user what is missing. */
export function readForm() {
  const read = { name: name.value.trim(), room: room.value.trim(), token: token.value.trim() };
  complain('');
  if (read.name) return read;
  complain(t.nameMissing, name);
  return null;
}

export function rememberForm(read) {
  remember('name', read.name, 'sessionStorage', 'localStorage');
  remember('room', read.room, 'sessionStorage', 'localStorage');
  remember('token', read.token, 'sessionStorage');
}

/** Fills the form from the address and from what the browser remembers. */
export function prefill() {
  const hash = new URLSearchParams(location.hash.slice(1));
  name.value = query.get('name') ?? recall('name');
  room.value = query.get('room') ?? (setting('room') || recall('room'));
  token.value = hash.get('token') ?? recall('token');
  if (token.value) remember('token', token.value, 'sessionStorage');
  // A token in the address bar would be copied with the address.
  if (hash.has('token')) history.replaceState(null, '', location.pathname + location.search);
  showPreview();
}

/** Suggests a name that no other tab has, until the user types one. */
export function avoidOtherTabs(currentName) {
  tellOtherTabs(currentName);
  const taken = [];
  let suggested = name.value;
  askOtherTabs((other) => {
    taken.push(other);
    if (currentName() || name.value !== suggested || !taken.includes(suggested)) return;
    name.value = suggested = otherName(suggested, taken);
    showPreview();
  });
}

export function focusForm() { (name.value ? $('enter') : name).focus(); }

/** Says why the server refuses to let the user in, and what to do. */
export function explainRefusal(error, tried) {
  if (error.code === 'name_taken') {
    const other = otherName(tried.name);
    name.value = other;
    showPreview();
    return complain(fill(t.nameTaken, { name: tried.name, other }), name);
  }
  if (error.code === 'no_auth') {
    return complain(tried.token ? fill(t.detail, { text: t.badToken, detail: error.message }) : t.noToken, token);
  }
  complain(explain(error), { bad_name: name, bad_room_id: room }[error.code]);
}

export function complain(text, field) {
  problem.hidden = !text;
  setText(problem, text);
  for (const each of [name, room, token]) each.ariaInvalid = String(Boolean(text) && field === each);
  if (field === token) $('more').open = true;
  field?.focus();
  field?.select();
}

/** Shows whether the page is connecting. `failure` is why the last attempt failed, and `seconds` is the time until the
 * next one. */
export function showForm(isBusy, seconds, failure) {
  $('fields').disabled = isBusy;
  $('enter').disabled = isBusy;
  $('cancel').hidden = !isBusy;
  setText($('enter'), !isBusy ? t.enter : seconds ? fill(t.nextTry, { s: seconds }) : t.state.connecting);
  if (isBusy && failure && problem.hidden) complain(explainFailure(failure));
}

function showPreview() {
  const text = name.value.trim();
  // Without a name, it would look like a button for help.
  $('preview').style.display = text ? '' : 'none';
  showAvatar($('preview'), text);
}

name.addEventListener('input', () => { showPreview(); complain(''); });
