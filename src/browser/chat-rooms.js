// The browser client of the `chat-rooms.v1` subprotocol. It enters a room and stays in it through lost connections,
// restarts of the server and sleeping tabs. Each message arrives once and in order.
//
//     const room = await connect('/chat', { name: 'ann', room: 'tea' });
//     room.on('message', (frame) => console.log(frame.name, frame.message));
//     await room.send('hi');
//
// `chat-rooms.d.ts` has the types and documents every option, method and event.

import { ChatError, mayReturn } from './errors.js';
import { Room } from './room.js';

/** Enters a room. Resolves when it has been entered for the first time. */
export function connect(url, options) {
  return new Promise((resolve, reject) => { new Room(url, options, { resolve, reject }); });
}

export { ChatError, mayReturn };
