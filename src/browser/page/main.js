// The page: what the user does, and what it shows.

import { ChatSession } from './chat-session.js';
import { $, setText, translate } from './dom.js';
import { avoidOtherTabs, complain, explainRefusal, focusForm, prefill, readForm, rememberForm, showForm } from './form.js';
import { showMembers } from './members.js';
import { closePanels, showBadge, showJoinProblem, showRooms } from './rooms-panel.js';
import { recall, recallEntered, rememberEntered } from './storage.js';
import { fill, query, roomTitle, t } from './texts.js';
import { TypingHints } from './typing.js';

/** How long the page is hidden before its user counts as away. */
const AWAY_AFTER = 60_000;
/** If the page still exists after this time, it wasn't left. */
const LEAVES_WITHIN = 2_000;

const input = $('input');
const typingHints = new TypingHints();
/** Null unless the user has entered or is about to. */
let session = null;
/** The room on the screen; null while the form is. */
let current = null;
/** The room to show as soon as it is entered. */
let wanted = null;
let isRenderDue = false;

// ---- Entering and leaving --------------------------------------------------------------------

function enter(event) {
  event.preventDefault();
  const read = !session && readForm();
  if (!read) return;
  begin(read, [{ id: read.room }]);
  rememberForm(read);
  showAddress(read.room);
}

/** Enters the rooms again after the page was reloaded. */
function restore() {
  const entered = recallEntered();
  rememberEntered(null);
  if (!entered || (query.has('name') && query.get('name') !== entered.name)) return false;
  const asked = query.get('room') ?? entered.room;
  const isNew = !entered.rooms.some(({ id }) => id === asked);
  begin({ name: entered.name, token: recall('token') }, isNew ? [...entered.rooms, { id: asked }] : entered.rooms);
  wanted = asked;
  return true;
}

function begin(claimed, rooms) {
  complain('');
  const mine = new ChatSession(claimed, {
    changed: render,
    isSeen: (view) => view === current && !document.hidden,
    entered: (view) => session === mine && entered(view),
    refused: (error, view) => session === mine && refused(error, view),
    failed: (error) => current?.addError(error),
    told: (frame) => current?.addDirect(frame),
  });
  session = mine;
  wanted = rooms[0].id;
  mine.start(rooms);
  render();
}

function entered(view) {
  complain('');
  if (view.id === wanted || !current) select(view);
  if (view.id === wanted) wanted = null;
  render();
}

function refused(error, view) {
  const { name, token, views } = session;
  if (!view || views.size === 0) {
    end();
    return explainRefusal(error, { name: view?.name ?? name, token });
  }
  if (view.id === wanted) wanted = null;
  showJoinProblem(error, view, (other) => join(view.id, other));
  if (!$('rooms-panel').checkVisibility()) current?.addError(error);
  render();
}

function join(id, name) {
  showJoinProblem(null);
  const known = session.views.get(id);
  wanted = id;
  if (known?.hasEntered) select(known);
  else if (!known) session.join({ id, name });
  $('join-room').value = '';
  render();
}

function leave() {
  const views = [...session.views.values()].filter((view) => view !== current && view.hasEntered);
  if (views.length === 0) {
    end();
    return focusForm();
  }
  session.leave(current);
  select(views.at(-1));
}

function end() {
  session.end();
  session = current = wanted = null;
  input.value = '';
  showJoinProblem(null);
  closePanels();
  renderNow();
}

function select(view) {
  current = view;
  view.log.show();
  if (!document.hidden) view.seen();
  closePanels();
  showAddress(view.id);
  renderNow();
  input.focus();
}

/** Puts the room into the address, so that it can be shared, but not the name and not the token. */
function showAddress(room) {
  query.delete('name');
  if (room) query.set('room', room);
  else query.delete('room');
  history.replaceState(null, '', location.pathname + (String(query) && `?${query}`));
}

// ---- Writing ---------------------------------------------------------------------------------

function send(event) {
  event.preventDefault();
  const text = input.value.trim();
  if (!text || !current || current.isOver || current.isReadOnly) return;
  current.draft = input.value = '';
  input.focus();
  typingHints.sent();
  current.send(text);
}

function onInputKey(event) {
  // An Enter that ends a composition, as in Chinese, belongs to the input method. Safari reports only key code 229.
  const composing = event.isComposing || event.keyCode === 229;
  if (event.key === 'Enter' && !event.shiftKey && !composing) send(event);
}

function onInput() {
  if (!current) return;
  current.draft = input.value;
  if (input.value) typingHints.typed(() => current.sendTyping());
}

// ---- Showing ---------------------------------------------------------------------------------

/** Shows the state of the session in the next microtask, once for all changes until then. */
function render() {
  if (isRenderDue) return;
  isRenderDue = true;
  queueMicrotask(() => {
    isRenderDue = false;
    renderNow();
  });
}

function renderNow() {
  $('entry').hidden = Boolean(current);
  $('chat').hidden = !current;
  const shown = current ?? session;
  const state = shown?.state === 'online' && !current ? 'connecting' : shown?.state ?? 'closed';
  const seconds = shown?.retryAt ? Math.max(1, Math.ceil((shown.retryAt - performance.now()) / 1000)) : 0;
  $('state').dataset.state = state;
  setText($('state'), seconds && t.countdown[state] ? fill(t.countdown[state], { s: seconds }) : t.state[state]);
  showForm(Boolean(session) && !current, seconds, formFailure());
  if (current) renderRoom(state, seconds);
  showOnline(current?.online ?? 0);
  showTitle();
}

/** Why it takes longer to enter. */
function formFailure() {
  if (!session || current) return null;
  return session.failure ?? [...session.views.values()].find((view) => view.failure)?.failure;
}

function renderRoom(state, seconds) {
  const { isOver, isReadOnly, draft } = current;
  $('send').disabled = isOver || isReadOnly;
  input.readOnly = isReadOnly;
  input.placeholder = isReadOnly ? t.readOnly : { online: t.write, outside: t.waitingOutside, closed: t.over }[state] ?? t.waiting;
  if (input.value !== draft) input.value = draft;
  setText($('leave'), isOver ? t.back : t.leave);
  $('enter-again').hidden = state !== 'outside' || seconds > 0;
  $('newer').hidden = !current.log.hasNewer;
  $('typing').replaceChildren(...current.typists.phrase());
  showRooms(session.views, current, (view) => view.hasEntered && select(view));
  // While the page reconnects, it still shows the members that it knows.
  const isOutside = state === 'outside' || state === 'closed';
  showMembers(isOutside ? null : current.presence, current.online);
}

function showTitle() {
  const views = [...session?.views.values() ?? []];
  const unread = views.reduce((sum, view) => sum + view.unread, 0);
  showBadge($('elsewhere'), unread - (current?.unread ?? 0));
  const title = roomTitle(current?.id);
  setText($('title'), title);
  const text = (unread ? `(${unread}) ` : '') + (current ? `${title} · ${t.title}` : t.title);
  if (document.title !== text) document.title = text;
}

function showOnline(num) {
  $('online').dataset.num = num;
  setText($('online'), fill(t.online, { num }));
}

/** Keeps the input above the keyboard of phones whose keyboard doesn't resize the page. */
function fitKeyboard() {
  if (visualViewport.scale !== 1) return;
  document.documentElement.style.setProperty('--visible', `${visualViewport.height}px`);
  scrollTo(0, 0);
}

// ---- Whether the user is there ---------------------------------------------------------------

let awayTimer;
let stayTimer;
let isLeft = false;

function visibilityChanged() {
  clearTimeout(awayTimer);
  if (isLeft) return;
  keepEntered(document.hidden);
  if (document.hidden) {
    awayTimer = setTimeout(() => session?.setState({ away: true }), AWAY_AFTER);
    return;
  }
  session?.setState(null);
  current?.seen();
  render();
}

/** The page is left or reloaded. The client could stay in its rooms for the resume window, in case the browser restores
 * the page, but a reloaded page would then be a second member, and its name may be taken. */
function leavePage() {
  isLeft = true;
  keepEntered(true);
  session?.end();
}

/** Firefox closes all connections before `pagehide`, and the server would then wait for this client to resume. The page
 * may also stay, for example if the user cancels or the new address is a download. */
function leavePageSoon() {
  leavePage();
  clearTimeout(stayTimer);
  stayTimer = setTimeout(comeBack, LEAVES_WITHIN);
}

function comeBack() {
  clearTimeout(stayTimer);
  isLeft = false;
  if (!session) return;
  keepEntered(true);
  end();
  restore();
}

/** Remembers what to enter when this tab is reloaded; see {@link rememberEntered}. */
function keepEntered(isHidden) {
  if (!isHidden || !current) return rememberEntered(null);
  const views = [...session.views.values()].filter((view) => view.hasEntered && !view.isOver);
  rememberEntered({
    name: session.name, room: current.id, rooms: views.map(({ id, name, unsent }) => ({ id, name, draft: unsent })),
  });
}

// ---- Event handlers --------------------------------------------------------------------------

$('enter-form').addEventListener('submit', enter);
$('cancel').addEventListener('click', () => { end(); complain(''); focusForm(); });
$('enter-again').addEventListener('click', () => current.enterAgain());
$('leave').addEventListener('click', leave);
$('join-form').addEventListener('submit', (event) => { event.preventDefault(); join($('join-room').value.trim()); });
$('join-room').addEventListener('input', () => showJoinProblem(null));
$('compose').addEventListener('submit', send);
$('newer').addEventListener('click', () => { current.log.scrollDown(); input.focus(); });
input.addEventListener('keydown', onInputKey);
input.addEventListener('input', onInput);
globalThis.visualViewport?.addEventListener('resize', fitKeyboard);
document.addEventListener('visibilitychange', visibilityChanged);
addEventListener('beforeunload', leavePageSoon);
addEventListener('pagehide', leavePage);
addEventListener('pageshow', ({ persisted }) => persisted && comeBack());
// A popover that is open would stay above the page when the screen becomes wide enough for its panel.
for (const width of ['760px', '1000px']) matchMedia(`(min-width: ${width})`).addEventListener('change', closePanels);
setInterval(() => (current ?? session)?.retryAt && render(), 500);

translate();
prefill();
avoidOtherTabs(() => session?.name);
const isRestored = restore();
renderNow();
if (!isRestored) focusForm();
