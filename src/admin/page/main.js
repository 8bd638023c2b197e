// The page: shows the view that its address names, and asks the server again every few seconds while it is visible.

import { setActions } from './actions.js';
import { get } from './api.js';
import { $, setText } from './dom.js';
import { connection, overview, room, rooms, users } from './views.js';

const INTERVAL = 3_000;
const VIEWS = { overview, rooms, room, connection, users };

let view = null;
let timer;
let asking = null;
let isPaused = false;
let actions = '';

/** Opens the view of the address. */
function open() {
  const [name, query] = location.hash.slice(1).split(/\?(.*)/);
  const known = Object.hasOwn(VIEWS, name) ? name : 'overview';
  view = VIEWS[known](Object.fromEntries(new URLSearchParams(query ?? '')));
  document.title = `${view.title} · Chat admin`;
  for (const tab of document.querySelectorAll('nav[aria-label=Views] a')) {
    tab.ariaCurrent = tab.hash === `#${known === 'room' ? 'rooms' : known}` ? 'page' : null;
  }
  $('view').replaceChildren(...view.body);
  complain('');
  scrollTo(0, 0);
  load();
}

/** Asks the server, and shows the answer. */
async function load() {
  clearTimeout(timer);
  asking?.abort();
  const mine = asking = new AbortController();
  try {
    const nodes = await get('nodes', {}, mine.signal);
    if (actions !== String(nodes.actions)) {
      // Only now is it known which buttons there are.
      actions = String(nodes.actions);
      setActions(nodes.actions, load);
      return open();
    }
    showHealth(nodes.health.state);
    await view.load(mine.signal, nodes);
    complain('');
  } catch (error) {
    if (mine.signal.aborted) return;
    if (error.status === undefined) throw error;
    if (error.status === 0 || error.status === 401) showHealth('unknown');
    complain(error.status === 401 ? 'You are no longer signed in. Reload the page.' : error.message);
  } finally {
    if (mine === asking && !document.hidden && !isPaused) timer = setTimeout(load, INTERVAL);
  }
}

function showHealth(state) {
  $('health').dataset.state = state;
  setText($('health'), state === 'unknown' ? 'no answer' : state.replace('_', ' '));
}

function complain(text) {
  setText($('problem'), text);
  $('problem').hidden = !text;
  $('view').classList.toggle('stale', Boolean(text));
}

function pause() {
  isPaused = !isPaused;
  $('pause').ariaPressed = String(isPaused);
  setText($('pause'), isPaused ? 'Resume' : 'Pause');
  if (isPaused) clearTimeout(timer);
  else load();
}

$('pause').addEventListener('click', pause);
addEventListener('hashchange', open);
document.addEventListener('visibilitychange', () => {
  clearTimeout(timer);
  if (!document.hidden && !isPaused) load();
});

open();
