// Adds a global WebSocket to versions of Node that have none.

import { WebSocket } from 'ws';

globalThis.WebSocket ??= WebSocket;
