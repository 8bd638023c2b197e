// The clients whose connections are cut, and the member that sends. See src/main.rs.

import { createInterface } from 'node:readline';
import { connect } from '../../src/browser/chat-rooms.js';

const [server, ...addresses] = process.argv.slice(2);
const room = 'cuts';
const write = (...words) => process.stdout.write(`${words.join(' ')}\n`);

const sender = await connect(`ws://${server}/`, { room, name: 'sender' });
await Promise.all(addresses.map(watch));
createInterface(process.stdin).on('line', (line) => {
  const number = Number(line.slice('send '.length));
  sender.send(number).catch((error) => write(number, 'was not sent:', error.message));
});

async function watch(address, client) {
  let member = null;
  const chat = await connect(`ws://${address}/`, {
    room,
    name: `n${client}`,
    on: {
      message: ({ message }) => write('got', client, message),
      gap: (gap) => write('client', client, 'gap', JSON.stringify(gap)),
      error: (error) => write('client', client, error.message),
    },
  });
  const entered = () => {
    write('entered', client, chat.member === member ? 'resumed' : 'new');
    member = chat.member;
  };
  entered();
  chat.on('state', ({ state }) => {
    if (state === 'online') entered();
  });
}
