/** Types and documentation of `chat-rooms.js`. */

/** A value as JSON can hold it. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json | undefined };

/** A frame as the server has sent it: `name` is who said it, `num` how many were in the room then. */
export interface Frame {
  readonly event: string;
  readonly message?: Json;
  /** Missing where the host speaks. */
  readonly name?: string;
  readonly num?: number;
  /** Its place in the room's order. Missing in what the host sends to one connection alone. */
  readonly seq?: number;
  readonly [key: string]: Json | undefined;
}

export interface FrameInfo {
  /** It is one's own: a message that was sent here, or the enter that began this membership. */
  readonly own: boolean;
  /** It was missed while the connection was lost, and comes now. */
  readonly replayed: boolean;
}

/** A place in the order of a room; another epoch is another order. */
export interface Position {
  readonly epoch: string;
  readonly seq: number;
}

/**
 * * `connecting`: the first attempt is under way;
 * * `online`: in the room;
 * * `reconnecting`: the connection was lost or none could be made, and another is tried for;
 * * `offline`: the same, and the browser says that there is no network;
 * * `closed`: for good.
 */
export type State = 'connecting' | 'online' | 'reconnecting' | 'offline' | 'closed';

export interface StateEvent {
  readonly state: State;
  /** Why it isn't online. */
  readonly reason: ChatError | null;
  /** When the next attempt is made, in the time of `performance.now()`. */
  readonly retryAt: number | null;
}

export interface RoomEvents {
  /** Whatever is said in the room or by the host, whatever the frame's event. */
  message: (frame: Frame, info: FrameInfo) => void;
  /** Somebody has entered; `frame.name` says who. */
  enter: (frame: Frame, info: FrameInfo) => void;
  /** Somebody is gone. */
  out: (frame: Frame, info: FrameInfo) => void;
  /** The state has changed, or an attempt to come back has failed. */
  state: (event: StateEvent) => void;
  /** Frames between these positions were missed and won't come. A message that was under way
   * then, and wasn't acknowledged, is sent again: the room may have had it already. */
  gap: (gap: { readonly before: Position; readonly after: Position }) => void;
  /** A message was refused here because too many wait. */
  overflow: (message: { readonly event: string; readonly message: Json }) => void;
  /** The server reports a problem that belongs to no message. */
  error: (error: ChatError) => void;
}

/** A handler of frames by their own event name; the names of `RoomEvents` are taken. */
export type FrameHandler = (frame: Frame, info: FrameInfo) => void;

export interface ConnectOptions {
  /** Under which to enter. The server may give another: see `room.name`. */
  name: string;
  /** The room's id; without one, the room of the empty name. */
  room?: string | number;
  /** Sent in band before entering. A function is asked anew for each attempt: give one where
   * tokens expire. Where the server refuses what a function gave, it is asked again, three times in a
   * row at most; a refused string ends it for good. */
  token?: string | (() => string | null | undefined | Promise<string | null | undefined>);
  /** Gives up entering, or leaves. */
  signal?: AbortSignal;
  /** Handlers that are there from the first event on. */
  on?: Partial<RoomEvents>;
  /** Further subprotocols to offer, for example `bearer.TOKEN`. */
  protocols?: readonly string[];
  /** The most messages that may wait or be unacknowledged. Default 128. */
  maxQueue?: number;
  /** Milliseconds that an attempt may take, from asking for the token to having entered. Default 15,000. */
  attemptTimeout?: number;
  /** Milliseconds. Before attempt `n` it waits anything up to `base * 2 ** n`, at most `cap`.
   * Default 500 and 10,000. */
  backoff?: { base?: number; cap?: number };
  /** What stands in for `globalThis`, in tests. */
  global?: object;
}

export interface SendOptions {
  /** The frame's event. Default `message`; the protocol's own names are refused. */
  event?: string;
  /** Further keys are sent along; `message`, `cid`, and what the server sets (`name`, `num`, `seq`) are not free. */
  [key: string]: Json | undefined;
}

/** A room that has been entered. */
export interface Room {
  readonly state: State;
  /** Why it isn't online, or was closed. */
  readonly reason: ChatError | null;
  /** When the next attempt is made, in the time of `performance.now()`. */
  readonly retryAt: number | null;
  /** How many are in the room, as far as is known. */
  readonly online: number;
  /** One's name in the room. */
  readonly name: string | null;
  /** The id of the connection that began this membership. */
  readonly id: string | null;
  /** Of the last frame that has come. */
  readonly position: Position | null;

  /** Returns a function that takes the handler away again. */
  on<T extends keyof RoomEvents>(type: T, handler: RoomEvents[T]): () => void;
  on(event: string, handler: FrameHandler): () => void;

  /** Done when the server has acknowledged it; `seq` is its place in the room. While the
   * connection is lost the message waits. Rejects with a `ChatError`: `too_big`, `overflow`,
   * `reserved_event`, `closed`, or the server's code. */
  send(message: Json, options?: SendOptions): Promise<{ readonly seq: number }>;

  /** Leaves for good. What isn't acknowledged by now is rejected with `closed`. */
  leave(): void;
}

/**
 * Why something failed or ended. Besides the server's codes (`denied`, `room_full`, ...):
 *
 * | code | |
 * |---|---|
 * | `lost` | the connection broke, or none could be made; `closeCode` says how |
 * | `timeout` | the server was silent for too long, or didn't answer the attempt |
 * | `gap` | a frame was missing in the room's order |
 * | `hidden` | the page was left, and may be kept by the browser |
 * | `token` | the token's function failed; `cause` has its error |
 * | `no_auth` | the server refused the token, or wants one |
 * | `closed` | the server ended it for good; of a message: it was not acknowledged before the end |
 * | `left`, `aborted` | by the application |
 * | `protocol` | the server doesn't speak `chat-rooms.v1` |
 * | `bad_request` | no WebSocket can be opened to such an address |
 * | `too_big`, `overflow`, `reserved_event` | the message was not sent |
 */
export class ChatError extends Error {
  constructor(code: string, message: string, options?: { closeCode?: number | null; cause?: unknown });
  readonly code: string;
  readonly closeCode: number | null;
}

/** Whether a client whose connection was closed with this code may come back. */
export function mayReturn(code: number): boolean;

/**
 * Enters a room. Done when it has been entered for the first time; through failures of the
 * network it keeps trying. Rejects with a `ChatError` if it was refused for good or aborted.
 *
 * To a browser a handshake that is refused looks like a lost connection: a server that answers 401
 * is tried again and again, and in Chromium so is one that doesn't speak `chat-rooms.v1` (others
 * tell: it ends with `protocol`). A token that is sent in band gets an answer.
 */
export function connect(url: string | URL, options: ConnectOptions): Promise<Room>;
