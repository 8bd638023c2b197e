// The browser client of the `chat-rooms.v1` subprotocol. It enters rooms and stays in them through lost connections,
// restarts of the server and sleeping tabs. Each message arrives once and in order.
//
//     const chat = await connect('/chat', { token });
//     const room = await chat.join('tea', { name: 'ann' });
//     room.on('message', (frame) => console.log(frame.name, frame.message));
//     await room.send('hi');
//
// `chat-rooms.d.ts` has the types and documents every option, method and event.

import { Chat } from './chat.js';
import { ChatError, mayReturn } from './errors.js';
import { messageTime } from './message-time.js';
import { readConnectOptions } from './options.js';

/** Opens a connection; with a name, enters a room on a connection of its own. */
export function connect(url, options) {
  return new Promise((resolve, reject) => {
    const { chat, room } = readConnectOptions(options);
    new Chat(url, chat, room, { resolve, reject });
  });
}

export { ChatError, mayReturn, messageTime };
