/** Types and documentation of `chat-rooms.js`. Times are milliseconds. */

/** A value as JSON can hold it. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json | undefined };

/** A frame as the server has sent it. */
export interface Frame {
  /** Missing only where the host sends an object without one. */
  readonly event?: string;
  readonly message?: Json;
  /** The name of the member that sent it. Missing where the host speaks. */
  readonly name?: string;
  /** How many were in the room at that time. */
  readonly num?: number;
  /** The id of the member that sent it, unique in the room. Missing where the host speaks. */
  readonly member?: string;
  /** Its place in the room's order. Missing in what the host sends to one connection alone. */
  readonly seq?: number;
  readonly [key: string]: Json | undefined;
}

export interface FrameInfo {
  /** This client sent it: `frame.member` is its member id, or was before it had to enter anew. */
  readonly own: boolean;
  /** It was missed while the connection was lost, and comes now. */
  readonly replayed: boolean;
}

/** A place in the order of a room. Positions of different epochs can't be compared: a room begins a new
 * epoch when its last member has left, and when the server restarts. */
export interface Position {
  readonly epoch: string;
  readonly seq: number;
}

/**
 * * `connecting`: the first attempts are under way;
 * * `online`: in the room;
 * * `outside`: connected, but not in the room: removed from it, refused on coming back, or without a valid
 *   token. With `retryAt` it enters again by itself, as it does when it has got another token; otherwise
 *   see {@link Room.enter};
 * * `reconnecting`: the connection was lost, and the client tries to come back;
 * * `offline`: there is no connection, and the browser says that there is no network;
 * * `closed`: for good; `reason` says why.
 */
export type State = 'connecting' | 'online' | 'outside' | 'reconnecting' | 'offline' | 'closed';

export interface StateEvent {
  readonly state: State;
  /** Why it isn't online; null while online. */
  readonly reason: ChatError | null;
  /** When the next attempt is made, in the time of `performance.now()`; null if none is due. */
  readonly retryAt: number | null;
}

/** Handles a frame of the room, or one of the host to this connection alone. */
export type FrameHandler = (frame: Frame, info: FrameInfo) => void;

/** Events with a type of their own. Any other name is that of an event that members or the host send. */
export interface RoomEvents {
  /** A message: a frame whose event is `message`. Frames of other events have handlers of their own. */
  message: FrameHandler;
  /** A member has entered: `frame.name`, `frame.member`. */
  enter: FrameHandler;
  /** A member has left. */
  out: FrameHandler;
  /** Every frame, whatever its event, after the handlers of that event. */
  '*': FrameHandler;
  /** The state has changed, or an attempt has failed. */
  state: (event: StateEvent) => void;
  /** The frames between these positions were missed for good, or are of another epoch. A message that was in
   * flight then and wasn't acknowledged is sent again: the room may have had it already. */
  gap: (gap: { readonly before: Position; readonly after: Position }) => void;
  /** A message was refused by the client because too many wait. */
  overflow: (message: { readonly event: string; readonly message: Json }) => void;
  /** A problem that belongs to no message and does not change the state: the server reports one, sends
   * something that can't be read (`bad_frame`), refuses a renewed token (`no_auth`), or the token function
   * fails (`token`). */
  error: (error: ChatError) => void;
}

/** A handler of an event without a type of its own; its frames are {@link Frame}s. */
export type OtherHandler = (frame: any, info: FrameInfo) => void;

/** Handlers by event. */
export type Handlers = Partial<RoomEvents> & { readonly [event: string]: OtherHandler | undefined };

export interface ConnectOptions {
  /** The name to enter under. The server may give another: see {@link Room.name}. */
  name: string;
  /** The room's id; without one, the room of the empty id. */
  room?: string | number;
  /**
   * Sent in band before entering. Give a function where tokens expire: it is called for each attempt, when the
   * server warns that the token expires soon, when the token has expired, and when the server refuses a token.
   * Three refusals in a row end the room with `no_auth`, as does a refused string, or a function that returns no
   * token.
   */
  token?: string | (() => string | null | undefined | Promise<string | null | undefined>);
  /** Gives up entering, or leaves. */
  signal?: AbortSignal;
  /** Handlers that are there from the first event on. */
  on?: Handlers;
  /** Further subprotocols to offer, for example `bearer.TOKEN`. */
  protocols?: readonly string[];
  /** The most messages that may wait or be unacknowledged. Default: 128. */
  maxQueue?: number;
  /** After so many failed attempts in a row the client gives up, with the reason `gave_up`. Default: never. */
  maxAttempts?: number;
  /** How long an attempt may take, from asking for the token to having entered. Twice and four times as much
   * after attempts that were not answered. Default: 15,000. */
  attemptTimeout?: number;
  /** Before attempt `n` it waits a random time up to `base * 2 ** n`, at most `cap`; `n` starts from 0 after ten
   * seconds in the room. The first time after a connection was lost it is up to a second. If the server has said
   * when to come back, it waits for that first. Defaults: 500 and 10,000. */
  backoff?: { base?: number; cap?: number };
  /** What stands in for `globalThis`, in tests. */
  global?: object;
}

export interface SendOptions {
  /** The frame's event. Default: `message`. The protocol's own events are refused with `reserved_event`. */
  event?: string;
  /** Further keys are sent along. `message`, `cid` and what the server sets (`name`, `num`, `member`, `seq`)
   * are overwritten. */
  [key: string]: Json | undefined;
}

/** A room that has been entered. */
export interface Room {
  readonly state: State;
  /** Why it isn't online, or was closed. */
  readonly reason: ChatError | null;
  /** When the next attempt is made, in the time of `performance.now()`; null if none is due. */
  readonly retryAt: number | null;
  /** How many are in the room, as far as is known. */
  readonly online: number;
  /** The name in the room, as the server has given it. */
  readonly name: string | null;
  /** The id of this member. Another one after entering anew, for example when the resume window was over. */
  readonly member: string | null;
  /** Of the last frame of the room that has come. */
  readonly position: Position | null;

  /** Adds a handler. Returns a function that removes it. A handler that throws harms no other; its error is
   * reported as uncaught. */
  on<T extends keyof RoomEvents>(type: T, handler: RoomEvents[T]): () => void;
  on(event: string, handler: FrameHandler): () => void;

  /**
   * Sends a message to the room. Resolves when the server has acknowledged it; `seq` is its place in the room.
   * Messages are sent in the order of the calls, at most as fast as the server allows. They wait while the
   * client isn't online, and a server that refuses one for the moment gets it again later.
   *
   * Rejects with a {@link ChatError}: `too_big`, `overflow`, `reserved_event`, `closed`, or the server's code.
   */
  send(message: Json, options?: SendOptions): Promise<{ readonly seq: number }>;

  /** Enters again at once where the state is `outside`, for example after the application has asked the
   * server for more rights. The state tells what comes of it. Does nothing in any other state. */
  enter(): void;

  /**
   * Leaves for good, at once: the state is `closed` when this returns. What isn't acknowledged by now is
   * rejected with `closed`. On a connection the others see the member leave at once; while the connection is
   * lost there is no way to tell them, and they see it when the resume window is over.
   */
  leave(): void;
}

/**
 * Why something failed or ended. Besides the server's codes (`denied`, `room_full`, ...):
 *
 * | code | |
 * |---|---|
 * | `lost` | the connection broke, or the server closed it for the moment; `closeCode` says how |
 * | `unreachable` | no connection could be opened: the server can't be reached, or refuses the handshake |
 * | `timeout` | the server was silent for too long, or didn't answer the attempt |
 * | `gap` | a frame was missing in the room's order; it is fetched by coming back |
 * | `hidden` | the page was left, and may be restored by the browser |
 * | `token` | the token function failed; `cause` has its error |
 * | `no_auth` | the server refused the token, or wants one |
 * | `gave_up` | `maxAttempts` attempts have failed; `cause` has the last error |
 * | `closed` | the server ended it for good; of a message: it was not acknowledged before the end |
 * | `left`, `aborted` | by the application |
 * | `protocol` | the server doesn't speak `chat-rooms.v1` |
 * | `bad_url` | no WebSocket can be opened to such an address |
 * | `bad_frame` | the server has sent something that is no JSON object |
 * | `too_big`, `overflow`, `reserved_event` | the message was not sent |
 */
export class ChatError extends Error {
  constructor(code: string, message: string, options?: { closeCode?: number | null; cause?: unknown });
  readonly code: string;
  /** With which the connection was closed; null if it wasn't. */
  readonly closeCode: number | null;
}

/** Whether a client whose connection was closed with this code may come back as it is. With 4502, 4504 and 4505
 * it may if it has another token. */
export function mayReturn(code: number): boolean;

/**
 * Enters a room. Resolves when it has been entered for the first time. Tries again while the server can't be
 * reached or refuses for the moment (`internal`, `rate_limited`, `unavailable`); the handler `on.state` is told
 * the reasons. Rejects with a {@link ChatError} if it was refused for good, aborted, or `maxAttempts` have failed.
 *
 * A browser doesn't tell a page why a handshake was refused. A server of `chat-rooms.v1` therefore refuses a
 * token after the handshake (`no_auth`). One that answers 401 or 403 looks `unreachable`, and in Chromium so
 * does one that doesn't speak `chat-rooms.v1`.
 */
export function connect(url: string | URL, options: ConnectOptions): Promise<Room>;
