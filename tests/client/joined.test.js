// The client as the crate serves it: its modules joined into one.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import * as entry from '../../src/browser/chat-rooms.js';
import { entered, own, settled, welcome, World } from './world.js';

const FOLDER = new URL('../../src/browser/', import.meta.url);
const read = (file) => readFileSync(new URL(file, FOLDER), 'utf8');

/** Joins the modules in the order that `script.rs` lists them in, in the way that it does. */
function join() {
  const files = [...read('script.rs').matchAll(/^ {4}"(.+\.js)",$/gm)].map(([, file]) => file);
  assert.equal(files.at(-1), 'chat-rooms.js');
  return files.flatMap((file, n) => {
    const lines = read(file).split('\n').filter((line) => !line.startsWith('import '));
    return n + 1 === files.length ? lines : lines.map((line) => line.replace(/^export /, ''));
  }).join('\n');
}

test('the joined client is a module that works', async () => {
  const client = await import(`data:text/javascript,${encodeURIComponent(join())}`);
  assert.deepEqual(Object.keys(client), Object.keys(entry));

  const world = new World();
  const begun = client.connect('/chat', { name: 'ann', room: 'tea', token: async () => 'T', global: world });
  await settled();
  world.socket.accept();
  world.socket.say(welcome('1'));
  world.socket.say({ event: 'authenticated' });
  world.socket.say(entered(0));
  const room = await begun;
  const heard = [];
  room.on('message', (frame, { own: isOwn }) => heard.push([frame.message, isOwn]));
  const sending = room.send('hi');
  const { cid } = world.socket.take().at(-1);
  world.socket.say(own(1, 'hi', cid));
  assert.deepEqual(await sending, { seq: 1 });
  world.socket.end();
  assert.deepEqual([heard, room.state, room.reason instanceof client.ChatError], [[['hi', true]], 'reconnecting', true]);
  await world.pass(1_000);
  assert.equal(world.sockets.length, 2);
  world.socket.end(4500, 'kicked');
  assert.deepEqual([room.state, room.reason.closeCode, client.mayReturn(4500)], ['closed', 4500, false]);
});
