// The TypeScript of the cookbook's pages, in a project that has installed the package: type-checked and, for the pages
// whose server the standalone can be, run against it in a DOM without a browser.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Window } from 'happy-dom';
import { build } from 'vite';
import { checkTypes, createProject, pack, startServer } from './project.js';
import './websocket.js';

const PAGES = fileURLToPath(new URL('../../docs/cookbook/', import.meta.url));
const SECRET = 'thirty-two bytes of secret, or so';

let folder;
let project;
let window;
let connect;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'chat-rooms-cookbook-'));
  const { tarball } = await pack(folder);
  project = await createProject(folder, 'cookbook', tarball);
  for (const name of ['react', 'react-dom']) {
    await symlink(fileURLToPath(new URL(`node_modules/${name}`, import.meta.url)), join(project, 'node_modules', name));
  }
  for (const page of await readdir(PAGES)) {
    for (const { file, code } of blocks(await readFile(join(PAGES, page), 'utf8'))) {
      const path = join(project, 'src', page.replace('.md', ''), file);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, code);
    }
  }
  // React for the test itself, from where the project has it.
  await writeFile(join(project, 'src/dom.js'), `export * from 'react';\nexport { createRoot } from 'react-dom/client';\n`);
  await bundle({
    dom: 'dom.js', jwt: 'jwt/index.ts', 'message-store': 'message-store/index.ts', presence: 'presence/index.ts',
    react: 'react/ChatRoom.tsx', typing: 'typing/index.ts',
  });
  ({ connect } = await import(pathToFileURL(join(project, 'node_modules/tower-chat-rooms/chat-rooms.js'))));
});

after(() => rm(folder, { recursive: true }));

test('the types of all examples are right', () => checkTypes(project));

test('a room in React', async (t) => {
  const bob = await enterAsBob(t, ['--history', '50']);
  const seen = [];
  for (const event of ['enter', 'out']) bob.on(event, ({ name }) => { if (name === 'ann') seen.push(event); });
  await bob.send('before');

  const { createElement, createRoot, StrictMode } = await load('dom');
  const { ChatRoom } = await load('react');
  const container = window.document.body.appendChild(window.document.createElement('main'));
  const root = createRoot(container);
  root.render(createElement(StrictMode, null, createElement(ChatRoom, { id: 'tea', name: 'ann' })));
  await until(() => container.textContent.includes('2 online') && container.textContent.includes('bob: before'));

  const input = container.querySelector('input');
  // As if a user had typed it.
  Object.getOwnPropertyDescriptor(window.HTMLInputElement.prototype, 'value').set.call(input, 'hello');
  input.dispatchEvent(new window.Event('input', { bubbles: true }));
  await until(() => input.value === 'hello');
  const answered = received(bob, 'message', ({ name }) => name === 'ann');
  container.querySelector('form').dispatchEvent(new window.Event('submit', { bubbles: true, cancelable: true }));
  assert.equal((await answered).message, 'hello');
  await until(() => [...container.querySelectorAll('li')].map((item) => item.textContent).join() === 'bob: before,ann: hello');

  // Another room, and back: earlier messages do not come twice.
  root.render(createElement(StrictMode, null, createElement(ChatRoom, { id: 'coffee', name: 'ann' })));
  await until(() => container.textContent.includes('1 online') && !container.querySelector('li'));
  root.render(createElement(StrictMode, null, createElement(ChatRoom, { id: 'tea', name: 'ann' })));
  await until(() => container.textContent.includes('2 online') && container.querySelectorAll('li').length === 2);

  const left = received(bob, 'out', ({ num }) => num === 1);
  root.unmount();
  await left;
  const outs = seen.filter((event) => event === 'out').length;
  assert.equal(seen.length, 2 * outs, 'each enter is followed by one leave');
  assert.deepEqual([seen[0], seen.at(-1), bob.online], ['enter', 'out', 1]);
});

test('a token that is renewed', async (t) => {
  const token = () => {
    // With the leeway of 60 s, 14 s are left, so the server warns immediately.
    const exp = Math.floor(Date.now() / 1000) - 46;
    const parts = [{ alg: 'HS256', typ: 'JWT' }, { sub: 'u-1', name: 'ann', exp }];
    const text = parts.map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
    return `${text}.${createHmac('sha256', SECRET).update(text).digest('base64url')}`;
  };
  const tokens = new EventTarget();
  t.mock.method(globalThis, 'fetch', async (url, { method }) => {
    assert.deepEqual([url, method], ['/token', 'POST']);
    tokens.dispatchEvent(new Event('fetched'));
    return new Response(token());
  });
  await startPage(t, ['--jwt-secret', SECRET], ['--features', 'jwt']);
  const { enter } = await load('jwt');
  const room = await enter('tea', 'somebody else');
  t.after(() => room.leave());
  assert.equal(room.name, 'ann');
  const { member } = room;
  await once(tokens, 'fetched');
  await room.send('still here');
  assert.deepEqual([room.state, room.member], ['online', member]);
});

test('earlier messages', async (t) => {
  const bob = await enterAsBob(t, ['--history', '200']);
  for (let n = 0; n < 70; n++) await bob.send(n);
  const { messages, readEarlier } = await load('message-store');
  // These frames come after the answer to the enter.
  while (messages.length < 50) await setImmediate();
  assert.equal(await readEarlier(), false);
  assert.deepEqual(messages.map(({ message }) => message), [...Array(70).keys()]);
});

test('a list of members', async (t) => {
  const bob = await enterAsBob(t);
  window.document.body.innerHTML = '<p id="online"></p><ul id="members"></ul>';
  await load('presence');
  const list = () => [...window.document.querySelectorAll('li')].map((item) => item.textContent).join();
  await until(() => list() === 'bob,Ann (you)');
  bob.setState({ away: true });
  await until(() => list() === 'bob (away),Ann (you)');
  bob.leave();
  await until(() => list() === 'Ann (you)' && window.document.querySelector('#online').textContent === '1 online');
});

test('who is typing', async (t) => {
  const bob = await enterAsBob(t);
  const ann = await connect('/chat', { room: 'tea', name: 'ann' });
  t.after(() => ann.leave());
  const { typing } = await load('typing');
  const inputs = [ann, bob].map(() => window.document.createElement('input'));
  let shown;
  typing(ann, inputs[0], () => assert.fail('nobody else is typing'));
  typing(bob, inputs[1], (names) => { shown?.(names); });
  const show = () => new Promise((resolve) => { shown = resolve; });
  const type = (text) => {
    inputs[0].value = text;
    inputs[0].dispatchEvent(new window.Event('input'));
  };
  for (const stop of [() => type(''), () => ann.send('done')]) {
    let next = show();
    type('d');
    assert.deepEqual(await next, ['ann']);
    next = show();
    stop();
    assert.deepEqual(await next, []);
  }
});

/** The TypeScript of a page, with the names that are written above the blocks. */
function blocks(page) {
  const found = page.matchAll(/(?:^`(\S+)`:\n\n)?^```(tsx?)\n(.*?)^```$/gms);
  return [...found].map(([, file, language, code]) => ({ file: file ?? `index.${language}`, code }));
}

/** Compiles modules of the project for Node, into its folder `dist`. */
async function bundle(modules) {
  const input = Object.fromEntries(Object.entries(modules).map(([name, file]) => [name, join(project, 'src', file)]));
  const external = [/^react/, 'tower-chat-rooms'];
  const options = { ssr: true, outDir: 'dist', rolldownOptions: { input, external } };
  await build({ root: project, configFile: false, logLevel: 'error', build: options });
}

/** A compiled module. */
const load = (name) => import(pathToFileURL(join(project, 'dist', `${name}.js`)));

/** Starts a server at the path /chat, and a page that it has served. */
async function startPage(t, options = [], features = []) {
  const address = await startServer(t, ['--path', '/chat', ...options], features);
  window = new Window({ url: new URL('/', address.replace('ws', 'http')).href });
  const { document, location, Image } = window;
  const addEventListener = window.addEventListener.bind(window);
  Object.assign(globalThis, { window, document, location, Image, addEventListener });
  // The page is left, so that its clients do not connect again. The browser might restore it.
  t.after(() => window.dispatchEvent(Object.assign(new window.Event('pagehide'), { persisted: true })));
}

/** Starts a server, and enters a room with another client. */
async function enterAsBob(t, options) {
  await startPage(t, options);
  const bob = await connect('/chat', { room: 'tea', name: 'bob' });
  t.after(() => bob.leave());
  return bob;
}

/** Waits until something is true of the document. */
async function until(condition) {
  const { document, MutationObserver } = window;
  if (condition()) return;
  await new Promise((resolve) => {
    const observer = new MutationObserver(() => {
      if (!condition()) return;
      observer.disconnect();
      resolve();
    });
    observer.observe(document, { attributes: true, childList: true, characterData: true, subtree: true });
  });
}

/** The next frame of this event that fits. */
const received = (room, event, fits) => new Promise((resolve) => {
  const stop = room.on(event, (frame) => {
    if (!fits(frame)) return;
    stop();
    resolve(frame);
  });
});
