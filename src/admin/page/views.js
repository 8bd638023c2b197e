// The views. Each is built once, when it is opened. Then it asks the server for its data, and shows it.

import { actionButton } from './actions.js';
import { get } from './api.js';
import { address, clientText, connectionLink, el, link, roomLink, userLink } from './dom.js';
import { bytes, count, duration, fact, limit, mean, rate, words } from './format.js';
import { Facts, Pager, searchForm, Table } from './table.js';

/** Entries of a page. */
const PAGE = 50;
const PRESENCE = { full: 'all members', count: 'only the number of members', quiet: 'nothing' };

const flags = (...given) => {
  const shown = given.filter(([is]) => is).map(([, text, kind = '']) => el('span', { className: `tag ${kind}` }, text));
  return shown.length ? el('span', { className: 'tags' }, ...shown) : '';
};
const panel = (title, ...children) => el('section', { className: 'panel' }, el('h2', {}, title), ...children);
const heading = (kind, name) => el('h1', {}, el('small', {}, kind), name);
const people = (n) => `${count(n)} ${n === 1 ? 'connection' : 'connections'}`;
/** Shows a button once it is known whether the server allows it. */
const slot = (button) => el('div', { className: 'buttons' }, ...[button].filter(Boolean));

/** Numbers of the whole node. */
export function overview() {
  const [now, node, broker, totals, ended, times] = Array.from({ length: 6 }, () => new Facts());
  const brokerPanel = panel('Broker', broker.node);
  const endedPanel = panel('Why connections have ended', ended.node);
  const timesPanel = panel('Mean times since the start', times.node);
  const drain = actionButton('drain', 'Drain this node', 'Drain this node? It will accept no more connections, and close all that it has. This cannot be undone.', {}, (done) => `Draining: ${people(done.connections)} left`);
  const body = [
    el('div', { className: 'title' }, heading('This node', 'Overview'), slot(drain)),
    panel('Now', now.node), panel('Node', node.node), brokerPanel, timesPanel, endedPanel, panel('Since the start', totals.node),
  ];
  now.node.classList.add('big');
  let before = null;
  return {
    title: 'Overview',
    body,
    async load(signal, nodes) {
      const stats = await get('stats', {}, signal);
      const at = performance.now();
      const messages = before ? Math.max(0, stats.total.messages - before.messages) * 1000 / (at - before.at) : null;
      before = { at, messages: stats.total.messages };
      now.show([
        ['Connections', count(stats.now.connections)], ['Rooms', link('rooms', {}, count(stats.now.rooms))], ['Messages per second', rate(messages)],
        ['Not in a room yet', count(stats.now.pending)], ['Absent sessions', count(stats.now.absent)],
        ['Users', count(stats.now.users)], ['In send queues', bytes(stats.now.queued_bytes)], ['Connections behind', count(stats.now.behind)],
      ]);
      const otherNodes = nodes.nodes.filter((number) => number !== nodes.own);
      node.show([
        ['Health', healthText(nodes.health)], ['Uptime', duration(nodes.up_seconds)], ['Version', nodes.version],
        ['This node', nodes.own === null ? 'the only one' : String(nodes.own)],
        ['Other nodes', (otherNodes.join(', ') || 'none') + (nodes.is_complete ? '' : ' (the broker does not answer)')],
        ['Allowed actions', nodes.actions.map((name) => name.replace('-', ' ')).join(', ') || 'none'],
      ]);
      brokerPanel.hidden = stats.broker === null;
      broker.show(Object.entries(stats.broker ?? {}).map(([name, value]) => [words(name), fact(name, value)]));
      totals.show(Object.entries(stats.total).map(([name, n]) => [words(name), n ? fact(name, n) : el('span', { className: 'muted' }, '0')]));
      const reasons = Object.entries(stats.reasons.closed).filter(([, n]) => n > 0);
      endedPanel.hidden = reasons.length === 0;
      ended.show(reasons.map(([reason, n]) => [words(reason), count(n)]));
      const { hooks, ...others } = stats.times;
      const measured = [...Object.entries(others).map(([name, took]) => [words(name), took]), ...Object.entries(hooks).map(([name, took]) => [`Hook ${name}`, took])];
      const called = measured.filter(([, took]) => took.count > 0);
      timesPanel.hidden = called.length === 0;
      times.show(called.map(([name, took]) => [name, mean(took)]));
    },
  };
}

function healthText({ state, reason, for_seconds: seconds }) {
  const text = state.replace('_', ' ');
  return reason ? `${text} for ${duration(seconds)}: ${reason}` : text;
}

export function rooms({ sort = 'members', find, after }) {
  const to = (other) => address('rooms', { sort: other, find });
  const pager = new Pager();
  const table = new Table('Rooms', [
    { title: 'Room', sort: to('id'), isSorted: sort === 'id', show: ({ id }) => roomLink(id) },
    { title: 'Members', end: true, sort: to('members'), isSorted: sort === 'members', show: ({ online }) => count(online) },
    { title: 'Hidden', end: true, minor: true, show: ({ hidden }) => count(hidden) },
    { title: 'Users', end: true, minor: true, show: ({ users }) => count(users) },
    { title: 'Frames/s', end: true, sort: to('rate'), isSorted: sort === 'rate', show: (room) => rate(room.rate) },
  ]);
  const note = el('p', { className: 'note' });
  return {
    title: 'Rooms',
    body: [
      el('div', { className: 'title' }, heading('This node', 'Rooms'), searchForm('Part of a room id', find, (text) => address('rooms', { sort, find: text || undefined }))),
      el('section', { className: 'panel' }, table.node, pager.node), note,
    ],
    async load(signal) {
      const page = await get('rooms', { sort, find, after, limit: PAGE }, signal);
      table.show(page.rooms, ({ id }) => id, find ? 'No room id contains this text.' : 'No room has members.');
      pager.show('rooms', { sort, find, after }, page.next);
      const over = page.rate_window_seconds;
      note.textContent = over === null ? 'Rates will appear in a moment.' : `Frames are messages, enters and leaves, over the last ${over.toFixed(over < 10 ? 1 : 0)} s.`;
    },
  };
}

export function room({ id = '', after }) {
  const [facts, pager] = [new Facts(), new Pager()];
  const kick = (member) => actionButton('kick', 'Kick', `Close connection ${member.connection} of ${member.name}? Its client is told to stay away.`, { connection: member.connection }, () => `Connection ${member.connection} was closed`);
  const table = new Table('Members', [
    { title: 'Name', show: ({ name }) => clientText(name) },
    { title: 'Connection', show: ({ connection }) => connectionLink(connection) },
    { title: 'User', show: ({ user }) => userLink(user) },
    { title: 'State', show: (member) => flags([!member.is_connected, 'away, can resume', 'warn'], [member.is_hidden, 'hidden']) },
    { title: 'Action', end: true, show: (member) => kick(member) ?? '' },
  ]);
  const close = actionButton('close-room', 'Close room', `Close the room ${id || '(empty id)'} and remove its members?`, { id }, ({ members }) => `The room was closed; members removed: ${count(members)}`);
  return {
    title: `Room ${id}`,
    body: [
      el('div', { className: 'title' }, heading('Room', clientText(id, '(empty id)')), slot(close)),
      el('section', { className: 'panel' }, facts.node),
      panel('Members on this node', table.node, pager.node),
    ],
    async load(signal) {
      const shown = await get('room', { id, after, limit: PAGE }, signal);
      facts.show([
        ['Members', `${count(shown.online)} of ${limit(shown.max_members)}`], ['On this node', count(shown.here)], ['Hidden', count(shown.hidden)], ['Users', count(shown.users)],
        ['Frames/s', rate(shown.rate)], ['Members see', PRESENCE[shown.presence] ?? shown.presence],
        ['Position', `${count(shown.position.seq)} (epoch ${shown.position.epoch})`], ['Senders', shown.holds_senders ? 'held back by a slow consumer' : 'not held back'],
      ]);
      table.show(shown.members, ({ connection }) => connection, 'No more members.');
      pager.show('room', { id, after }, shown.next);
    },
  };
}

export function connection({ id = '' }) {
  const [facts, queue] = [new Facts(), new Facts()];
  const table = new Table('Rooms', [
    { title: 'Room', show: (membership) => roomLink(membership.id) },
    { title: 'Name', show: ({ name }) => clientText(name) },
    { title: 'State', show: (membership) => flags([membership.is_hidden, 'hidden'], [membership.is_read_only, 'read-only'], [membership.is_inactive, 'not entered again yet', 'warn']) },
  ]);
  const kick = actionButton('kick', 'Kick', `Close connection ${id}? Its client is told to stay away.`, { connection: id }, () => {
    end('It has ended.');
    return `Connection ${id} was closed`;
  });
  const [buttons, note] = [slot(kick), el('p', { className: 'note' })];
  const panels = [el('section', { className: 'panel' }, facts.node), panel('Send queue', queue.node), panel('Rooms', table.node)];
  let hasEnded = false;
  /** Shows only this text. The id of a connection is not used again, so there is nothing more to ask. */
  function end(text) {
    hasEnded = true;
    for (const node of [buttons, ...panels]) node.hidden = true;
    note.textContent = text;
  }
  return {
    title: `Connection ${id}`,
    body: [el('div', { className: 'title' }, heading('Connection', id), buttons), ...panels, note],
    async load(signal) {
      if (hasEnded) return;
      let shown;
      try {
        shown = await get('connection', { id }, signal);
      } catch (error) {
        if (error.status !== 404) throw error;
        if (!hasEnded) end(`Connection ${id} is gone: ${error.message}.`);
        return;
      }
      const kept = shown.kept_for_seconds;
      facts.show([
        ['State', kept === null ? shown.state : `connection lost; kept for ${duration(kept)}`], ['Since', `${duration(shown.age_seconds)} ago`],
        ['User', shown.user_has_expired ? el('span', {}, userLink(shown.user), ' (authentication has expired)') : userLink(shown.user)],
        ['Address', shown.address ?? 'unknown'], ['Protocol', shown.protocol], ['Rooms', count(shown.room_count)],
      ]);
      queue.show([
        ['Waiting', `${bytes(shown.queue.bytes)} of ${limit(shown.queue.max_bytes, bytes)}`],
        ['Frames', `${count(shown.queue.frames)} of ${limit(shown.queue.max_frames)}`], ['Replays', bytes(shown.queue.replay_bytes)],
      ]);
      table.show(shown.rooms, (membership) => membership.id, 'It is in no room.');
    },
  };
}

export function users({ find, after }) {
  const pager = new Pager();
  const kick = (user) => actionButton('kick', 'Kick', `Close all connections of the user ${user.id}? Its clients are told to stay away.`, { user: user.id }, ({ sessions }) => `Sessions ended: ${count(sessions)}`);
  const table = new Table('Users', [
    { title: 'User', show: ({ id }) => clientText(id) },
    { title: 'Sessions', end: true, show: (user) => count(user.session_count) },
    { title: 'Connections', show: sessionLinks },
    { title: 'Action', end: true, show: (user) => kick(user) ?? '' },
  ]);
  const note = el('p', { className: 'note' });
  return {
    title: 'Users',
    body: [
      el('div', { className: 'title' }, heading('This node', 'Users online'), searchForm('Part of a user id', find, (text) => address('users', { find: text || undefined }))),
      el('section', { className: 'panel' }, table.node, pager.node), note,
    ],
    async load(signal) {
      const page = await get('users', { find, after, limit: PAGE }, signal);
      table.show(page.users, ({ id }) => id, 'No users. Anonymous clients are not users: find them in their rooms.');
      pager.show('users', { find, after }, page.next);
      note.textContent = `${count(page.count)} ${page.count === 1 ? 'user' : 'users'}.`;
    },
  };
}

function sessionLinks({ sessions, session_count: all }) {
  const links = sessions.flatMap((id, n) => (n ? [', ', connectionLink(id)] : [connectionLink(id)]));
  const more = all > sessions.length ? ` and ${count(all - sessions.length)} more` : '';
  return el('span', {}, ...links, more);
}
