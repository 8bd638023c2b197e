// The npm package as its users get it: packed, installed in projects outside of the repository, type-checked, bundled
// by Vite, and run in Node with a server. The projects run the examples of the package's README.

import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { build } from 'vite';
import { checkTypes, createProject, pack, readmeExample, SOURCE, start, startServer } from './project.js';
import './websocket.js';

let folder;
let tarball;
let files;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'chat-rooms-package-'));
  ({ tarball, files } = await pack(folder));
});

after(() => rm(folder, { recursive: true }));

test('the package has the modules of the client, its types and nothing of the page', async () => {
  const modules = (await readdir(SOURCE)).filter((name) => name.endsWith('.js'));
  const expected = ['LICENSE', 'README.md', 'chat-rooms.d.ts', 'package.json', ...modules];
  assert.deepEqual(files.toSorted(), expected.sort());
});

test('a TypeScript project with Vite runs the first example', async () => {
  const app = await createProject(folder, 'app', tarball);
  await mkdir(join(app, 'src'));
  await writeFile(join(app, 'src/main.ts'), await readmeExample('ts'));
  await checkTypes(app);
  assert.match(await bundle(app), /chat-rooms\.v1/);

  await writeFile(join(app, 'src/main.ts'), `import { mayReturn } from 'tower-chat-rooms';\nconsole.log(mayReturn(1000));\n`);
  assert.doesNotMatch(await bundle(app), /chat-rooms\.v1/, 'what is not used is not bundled');
});

test('a program in Node talks to a server', async (t) => {
  const address = await startServer(t);
  const bot = await createProject(folder, 'bot', tarball);
  const program = await readmeExample('js');
  await writeFile(join(bot, 'main.js'), program.replace('ws://127.0.0.1:3000', address));
  await checkTypes(bot);
  const preload = ['--import', new URL('websocket.js', import.meta.url).href];
  const online = await start(t, process.execPath, [...preload, 'main.js'], { cwd: bot });
  assert.equal(online, '1 online');

  const { resolve } = createRequire(join(bot, 'main.js'));
  assert.throws(() => resolve('tower-chat-rooms/chat.js'), { code: 'ERR_PACKAGE_PATH_NOT_EXPORTED' });
  const { connect } = await import(pathToFileURL(resolve('tower-chat-rooms')));
  const room = await connect(address, { name: 'ann', room: 'tea' });
  t.after(() => room.leave());
  const answer = new Promise((received) => {
    room.on('message', (frame, { own }) => own || received(frame));
  });
  await room.send('hi');
  const { name, message } = await answer;
  assert.deepEqual({ name, message }, { name: 'bot', message: 'Hello ann!' });
});

/** Builds the project for browsers, and returns its script. */
async function bundle(root) {
  const { output } = await build({ root, configFile: false, logLevel: 'error', build: { write: false } });
  return output.filter(({ type }) => type === 'chunk').map(({ code }) => code).join('\n');
}
