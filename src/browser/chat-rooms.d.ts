/** Types and documentation of `chat-rooms.js`. Times are milliseconds. */

/** A JSON value. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json | undefined };

/** A frame as the server has sent it. */
export interface Frame {
  /** Missing only if the host sends an object without one. */
  readonly event?: string;
  /** The room of the frame. Missing if the host sent it to this connection only. */
  readonly roomId?: string;
  readonly message?: Json;
  /** The name of the member that sent it. Usually missing if the host sent it. */
  readonly name?: string;
  /** The number of members in the room at that time. */
  readonly num?: number;
  /** The id of the member that sent it, unique in the room. Missing if the host sent it. */
  readonly member?: string;
  /** Its place in the room's order. Missing if its event is transient ({@link Room.sendTransient}), or if the host sent
   * it to this connection only. */
  readonly seq?: number;
  /** The id of a message. In a room, ids rise and are never used again, not even after a restart of the server. Missing
   * in other frames. See {@link messageTime}. */
  readonly id?: number;
  readonly [key: string]: Json | undefined;
}

export interface FrameInfo {
  /** Whether this client sent it. In a replay, this includes frames that it sent as an earlier member of the room. */
  readonly own: boolean;
  /** Whether it was missed while the connection was lost. */
  readonly replayed: boolean;
  /** Whether it is an earlier message that the application has asked for with {@link JoinOptions.history}. Such messages
   * come only when the room is entered for the first time. */
  readonly history: boolean;
}

/** A frame to a user, which concerns no room. */
export interface DirectFrame extends Frame {
  /** The id of the user that sent it, and the user's own name if there is one. Missing if the host sent the frame,
   * unless the host has set it. */
  readonly from?: { readonly user: string; readonly name?: string };
  /** The number of the frame in the client's session. */
  readonly direct?: number;
}

/** A member of a room. The object is immutable: if the member changes, a new object replaces it. */
export interface Member {
  /** The member's id, which is the `member` of each of its frames. */
  readonly id: string;
  readonly name: string;
  /** The id of the user. Missing if the member is not authenticated. */
  readonly user?: string;
  /** The info that the host has set for the member. */
  readonly info?: Json;
  /** The state that the member's client has set, see {@link Room.setState}. */
  readonly state?: Json;
  /** Whether this member is the client itself. */
  readonly self: boolean;
}

/** Who is in a room. The object is immutable: after a change, {@link Room.presence} is a new object. */
export interface Presence {
  /** What the members learn about each other: in `full` mode, who is in the room; in `count` mode, how many members
   * there are; in `quiet` mode, how many there were at the last frame. The mode may change. Null if the server does not
   * say. */
  readonly mode: 'full' | 'count' | 'quiet' | null;
  /** The last known number of members in the room. */
  readonly num: number;
  /** The last known number of different users among the members. Anonymous members are not counted. */
  readonly users: number;
  /** The known members in the order in which they entered. Null if the mode is not `full`, or if no members are known
   * yet. */
  readonly members: readonly Member[] | null;
  /** Whether `members` contains all members. False while the client fetches them, while it is not in the room, and if
   * there are more than {@link JoinOptions.roster}. */
  readonly complete: boolean;
  /** The client itself, if it is one of `members`. Null for a moment after {@link Chat.join}, until the client's own
   * `enter` has come. */
  readonly self: Member | null;
}

/** A place in the order of a room's frames. Positions of different epochs can't be compared: a room begins a new
 * epoch after its last member has left, and after a restart of the server. */
export interface Position {
  readonly epoch: string;
  readonly seq: number;
}

/**
 * The state of a room:
 *
 * * `connecting`: the client tries to enter for the first time;
 * * `online`: in the room;
 * * `outside`: connected, but not in the room: the client was removed, was refused when it entered again, or has no
 *   valid token. The client enters again automatically if `retryAt` is set, or once it has another token. Otherwise,
 *   call {@link Room.enter};
 * * `reconnecting`: the connection was lost, and the client tries to reconnect;
 * * `offline`: there is no connection, and the browser reports that there is no network;
 * * `closed`: closed for good; `reason` says why.
 *
 * The state of a chat is that of its connection: `online` means connected and, if there is a token,
 * authenticated, `outside` connected without a valid token. It has one more state, `idle`: the server has closed the connection because the chat was in no
 * room, and {@link Chat.join} connects again.
 */
export type State = 'connecting' | 'online' | 'outside' | 'reconnecting' | 'offline' | 'idle' | 'closed';

export interface StateEvent {
  readonly state: State;
  /** Why it isn't online; null while online. */
  readonly reason: ChatError | null;
  /** When the next attempt is made, on the clock of `performance.now()`; null if none is due. */
  readonly retryAt: number | null;
}

/** Handles a frame of the room, or a frame that the host sent to this connection only. Frames of the second kind go to
 * the handlers of the chat or, if `connect` has entered a room, to those of the room. */
export type FrameHandler = (frame: Frame, info: FrameInfo) => void;

/** Events for direct messages. If `connect` has entered a room, the room emits them, otherwise the chat. */
export interface DirectEvents {
  /** A direct message from a user. Each comes once and in order, even after an interruption if the server keeps the
   * session. So do the messages that the host sends to a user, but the handlers of their own event get them, for
   * example those of `notice`. */
  direct: (frame: DirectFrame, info: FrameInfo) => void;
  /** Direct messages were missed, and the server no longer keeps them. `missed` says how many. */
  directGap: (gap: { readonly missed: number }) => void;
}

/** The events that have their own types. All other names are events that members or the host send. */
export interface RoomEvents extends DirectEvents {
  /** A message: a frame whose event is `message`. Frames of other events have their own handlers. */
  message: FrameHandler;
  /** A member has entered: `frame.name`, `frame.member`. */
  enter: FrameHandler;
  /** A member has left. */
  out: FrameHandler;
  /** {@link Room.presence} has changed. Called once for all changes in the same task. In modes other than `full`, this
   * event replaces `enter` and `out`. */
  presence: (presence: Presence) => void;
  /** The host lets this client only read from now on, or write again: {@link Room.readOnly}. */
  readOnly: (readOnly: boolean) => void;
  /** Every frame of any event, after the handlers of that event. */
  '*': FrameHandler;
  /** The state has changed, or an attempt has failed. */
  state: (event: StateEvent) => void;
  /** The frames between these positions cannot be recovered, or are of another epoch. The client sends unacknowledged
   * messages again, so the room may receive some of them twice. */
  gap: (gap: { readonly before: Position; readonly after: Position }) => void;
  /** The client refused a message because too many are waiting. */
  overflow: (message: { readonly event: string; readonly message: Json }) => void;
  /** A problem that concerns no message and does not change the state: the server reports an error, sends
   * something that can't be read (`bad_frame`), or refuses a renewed token (`no_auth`), or the token function
   * fails (`token`). */
  error: (error: ChatError) => void;
}

/** The events of a chat that have their own types. All other names are events that the host sends to this connection
 * only. */
export interface ChatEvents extends DirectEvents {
  /** Every frame that the host sends to this connection only, after the handlers of its event. */
  '*': FrameHandler;
  /** The state has changed, or an attempt has failed. */
  state: (event: StateEvent) => void;
  /** Like {@link RoomEvents.error}, for the connection with all of its rooms. */
  error: (error: ChatError) => void;
}

/** A handler of an event that has no type of its own; its frames are {@link Frame}s. */
export type OtherHandler = (frame: any, info: FrameInfo) => void;

/** Handlers by event. */
export type Handlers = Partial<RoomEvents> & { readonly [event: string]: OtherHandler | undefined };
export type ChatHandlers = Partial<ChatEvents> & { readonly [event: string]: OtherHandler | undefined };

/** Options of a connection. */
export interface ChatOptions {
  /**
   * A token, which the client sends over the connection before anything else. If tokens expire, give a function: the
   * client calls it for each attempt, when the server warns that the token expires soon, when the token has expired,
   * and when the server refuses a token. If the function returns no token, the client connects without one. The chat
   * closes with `no_auth` after three refusals in a row, if a token that is a string is refused, or if the server requires
   * a token and there is none.
   */
  token?: string | null | (() => string | null | undefined | Promise<string | null | undefined>);
  /** Aborts connecting, or closes the chat. */
  signal?: AbortSignal;
  /** Handlers that are registered before the first event. */
  on?: ChatHandlers;
  /** Further subprotocols to offer, for example `bearer.TOKEN`. */
  protocols?: readonly string[];
  /** The maximum number of messages of a room, and of requests for earlier ones, that may wait or be unacknowledged.
   * Default: 128. */
  maxQueue?: number;
  /** The number of failed attempts in a row, to connect or to enter a room, after which the client gives up with the
   * reason `gave_up`. Default: the client never gives up. */
  maxAttempts?: number;
  /** How long an attempt may take, from asking for the token to having entered. After attempts that were not
   * answered, it is twice and then four times as long. Default: 15,000. */
  attemptTimeout?: number;
  /** Before attempt `n`, the client waits a random time up to `base * 2 ** n`, at most `cap`; `n` starts again from 0
   * after ten seconds in the room. The first wait after a lost connection is up to a second. While the server keeps the
   * session, the wait is at most half of the time that is left to resume it, or a second if that is longer. If the
   * server says when to reconnect, the client follows that instead. If the server says so again before the ten seconds
   * are over, the client also waits for such a random time. An enter that the server refuses temporarily is sent again
   * after such a wait. If the server says when (`retryAfter`), the client adds a random time up to half of that, or up
   * to a second if the server says so again. Defaults: 500 and 10,000. */
  backoff?: { base?: number; cap?: number };
  /** Replaces `globalThis`, in tests. */
  global?: object;
}

/** Options of a room. */
export interface JoinOptions {
  /** The name to enter under. The server may assign another: see {@link Room.name}. */
  name: string;
  /** How many of the latest messages to ask for when the room is entered for the first time. Handlers get them before
   * all other frames of the room, with `info.history`. The server may send fewer. Default: 0. */
  history?: number;
  /** The state to enter with, see {@link Room.setState}. Default: none. */
  state?: Json;
  /** How many members to fetch if the room has more than the server sends at once; 0 to fetch none. Members that enter
   * later are always known. Default: 1,000. */
  roster?: number;
  /** Aborts entering, or leaves the room. */
  signal?: AbortSignal;
  /** Handlers that are registered before the first event. */
  on?: Handlers;
}

/** Options of a connection with one room. */
export interface ConnectOptions extends Omit<ChatOptions, 'on'>, JoinOptions {
  /** The room's id. Default: the room with the empty id. */
  room?: string | number;
}

export interface SendOptions {
  /** The frame's event. Default: `message`. The protocol's own events are refused with `reserved_event`. */
  event?: string;
  /** Further keys are sent along. `message`, `roomId`, `cid` and the keys that the server sets (`name`, `num`,
   * `member`, `seq`, `id`) are overwritten. */
  [key: string]: Json | undefined;
}

export interface HistoryOptions {
  /** Only messages with a lower {@link Frame.id}, and of these the latest ones. */
  before?: number;
  /** Only messages with a higher {@link Frame.id}, and of these the earliest ones. */
  after?: number;
  /** How many messages at most. Default: 50. The server sends no more than 200. */
  limit?: number;
}

/** Messages of a room, the oldest first. */
export interface HistoryPage {
  /** Messages from the server's store have no `num` and no `seq`. */
  readonly messages: readonly Frame[];
  /** Whether there are further ones in this direction. */
  readonly more: boolean;
}

/** A connection to a server, on which the client can be in several rooms. */
export interface Chat {
  readonly state: State;
  /** Why it isn't online, or was closed. */
  readonly reason: ChatError | null;
  /** When the next attempt is made, on the clock of `performance.now()`; null if none is due. */
  readonly retryAt: number | null;
  /** The rooms that were entered and are not closed. */
  readonly rooms: readonly Room[];

  /** Adds a handler for an event of the connection. Returns a function that removes it. */
  on<T extends keyof ChatEvents>(type: T, handler: ChatEvents[T]): () => void;
  on(event: string, handler: FrameHandler): () => void;

  /**
   * Enters a room. Resolves when the room has been entered for the first time. Tries again while there is no
   * connection, or while the server refuses temporarily (`internal`, `rate_limited`, `unavailable`). Rejects with a
   * {@link ChatError} if the client was refused permanently, the application aborted, the chat was closed, the chat has
   * already joined the room (`already_joined`), or an option is missing or wrong.
   */
  join(room: string | number, options: JoinOptions): Promise<Room>;

  /**
   * Sends a direct message to all sessions of a user, whose clients emit it as `direct`. When the server has
   * acknowledged it, resolves to the number of open connections that it has reached. Direct messages are sent in the
   * order of the calls, and wait while the client isn't online. `extra` has further keys for the frame.
   *
   * Rejects with a {@link ChatError}: `too_big`, `overflow`, `bad_options`, `closed`, or the server's code; `denied` if
   * the host does not allow it, or if this client is not authenticated.
   */
  sendTo(user: string, message: Json, extra?: { readonly [key: string]: Json | undefined }): Promise<number>;

  /**
   * Calls the token function now and sends the token over the connection, for example after a guest has logged in, or
   * after a user was given more rights. The server then asks its policy again about the rooms. If there is no connection,
   * the next one has the new token in any case. Nothing happens if {@link ChatOptions.token} is not a function, or if it
   * returns no token.
   *
   * If the server refuses the token, the handlers of `error` are called, and the one before stays valid. A token of another
   * user is refused: close the chat and connect again.
   */
  authenticate(): void;

  /** Leaves all rooms permanently and closes the connection. The state is `closed` when this returns. */
  close(): void;
}

/** A room that has been entered. */
export interface Room {
  /** The room's id. */
  readonly id: string;
  readonly state: State;
  /** Why it isn't online, or was closed. */
  readonly reason: ChatError | null;
  /** When the next attempt is made, on the clock of `performance.now()`; null if none is due. */
  readonly retryAt: number | null;
  /** The last known number of members in the room. */
  readonly online: number;
  /** Who is in the room, as far as the client knows. */
  readonly presence: Presence;
  /** Whether this client may only read in the room. If so, its messages are refused with `read_only`. When this changes
   * while the client is in the room, it emits `readOnly`. */
  readonly readOnly: boolean;
  /** Whether the host hides this client from the other members. */
  readonly hidden: boolean;
  /** The name in the room, as assigned by the server. */
  readonly name: string | null;
  /** The id of this member. It changes when the client enters as a new member, for example after the resume window. */
  readonly member: string | null;
  /** The position of the last frame of the room that was received. */
  readonly position: Position | null;

  /** Adds a handler. Returns a function that removes it. A handler that throws does not affect the others; its error
   * is reported as uncaught. */
  on<T extends keyof RoomEvents>(type: T, handler: RoomEvents[T]): () => void;
  on(event: string, handler: FrameHandler): () => void;

  /**
   * Sends a message to the room. Resolves when the server has acknowledged it; `seq` is its place in the room, `id` its id, as
   * in {@link Frame}.
   * Messages are sent in the order of the calls, at most as fast as the server allows. They wait while the
   * client isn't online. If the server refuses one only temporarily (`rate_limited`, or `internal` or `unavailable` with a
   * `retryAfter`), the client sends it again later. After `internal` or `unavailable` without a `retryAfter`, the promise
   * rejects at once.
   *
   * Rejects with a {@link ChatError}: `too_big`, `overflow`, `reserved_event`, `bad_options`, `closed`, or the
   * server's code; `transient` if the server does not acknowledge the event, see {@link sendTransient}.
   */
  send(message: Json, options?: SendOptions): Promise<{ readonly seq: number; readonly id?: number }>;

  /**
   * Reads messages that were sent before: the latest ones, or those before or after one of them, for example
   * `room.history({ before: oldest.id })`. The server reads them from its message store or, if it has none, from the history
   * that it keeps in memory. The handlers of the room do not get them.
   *
   * The request waits while the client isn't in the room, and is sent again after a lost connection. If the server
   * refuses it, it is not sent again. Rejects with a {@link ChatError}: `bad_options`, `overflow`, `closed`, or the
   * server's code: `denied` if the host does not allow it, `unavailable` if the message store does not answer.
   */
  history(options?: HistoryOptions): Promise<HistoryPage>;

  /**
   * Sends a hint that may get lost, such as `sendTransient('typing', true)`, to the other members. Their handlers of
   * the event get it; its frame has no `seq`. The server has to declare the event as transient.
   *
   * Returns false if the hint is dropped: the client isn't in the room at the moment, or a message to the room still
   * waits to be sent. Returns true if it is sent, immediately or as soon as the server's rate allows. Until then, a
   * newer hint of the same event takes its place, and a message to the room drops it. Nothing tells whether it arrives,
   * so repeat it, and let what you show expire.
   *
   * Throws a {@link ChatError}: `not_transient` if the server has not declared the event, `too_big` if the frame has
   * more than 1,024 bytes, `bad_options` if the event is not a string. If the server refuses the hint, the chat's
   * handlers of `error` are called, or the room's if `connect` has entered it.
   */
  sendTransient(event: string, message?: Json): boolean;

  /**
   * Sets the state of this member, for example `{ away: true }`. The other members see it in their {@link Presence} if
   * the room's mode is `full`. Null removes it. The client sends only the newest state, at most every 100 ms, and sends
   * it again when it enters as a new member.
   *
   * Throws a {@link ChatError}: `too_big` if the state has more than 1,024 bytes of JSON, `bad_options` if it is not a
   * JSON value. If the server refuses the state, the room emits `error`, and the previous state stays.
   */
  setState(state: Json): void;

  /** Enters again immediately if the state is `outside`, for example after the application has asked the
   * server for more rights. The state shows the result. Does nothing in any other state. */
  enter(): void;

  /**
   * Leaves permanently. The state is `closed` when this returns. Messages that aren't acknowledged yet are rejected
   * with `closed`. If `connect` has entered the room, this closes the connection; otherwise the connection stays open.
   *
   * If the client is connected, the other members see it leave immediately. Otherwise they see it leave when the client
   * has reconnected, or when the resume window is over, whichever is first.
   */
  leave(): void;
}

/** A room that `connect` has entered, which has the connection to itself. */
export interface OnlyRoom extends Room {
  /** See {@link Chat.sendTo}. */
  sendTo: Chat['sendTo'];
  /** See {@link Chat.authenticate}. */
  authenticate: Chat['authenticate'];
}

/**
 * Why something failed or ended. Besides the server's codes (`denied`, `room_full`, ...):
 *
 * | code | |
 * |---|---|
 * | `lost` | the connection broke, or the server closed it temporarily; `closeCode` says how |
 * | `unreachable` | no connection could be opened: the server can't be reached, or refuses the handshake |
 * | `timeout` | the server was silent for too long, or didn't answer the attempt |
 * | `gap` | a frame was missing in the room's order; the client reconnects to recover it |
 * | `hidden` | the user left the page; the browser may restore it |
 * | `token` | the token function failed; `cause` has its error |
 * | `no_auth` | the server refused the token, or requires one |
 * | `gave_up` | `maxAttempts` attempts have failed; `cause` has the last error |
 * | `closed` | the server closed the connection permanently; for a message: it was not acknowledged before the end |
 * | `left`, `aborted` | the application left or aborted |
 * | `already_joined` | the chat has joined this room already, and has not left it |
 * | `protocol` | the server doesn't speak `chat-rooms.v1` |
 * | `bad_url` | no WebSocket can be opened to this address |
 * | `no_websocket` | there is no global `WebSocket`, as in older versions of Node |
 * | `bad_options` | an option is missing or of the wrong type |
 * | `bad_frame` | the server has sent something that is not a JSON object |
 * | `too_big`, `overflow`, `reserved_event` | the message, request or state was not sent |
 * | `transient`, `not_transient` | the event needs {@link Room.sendTransient}, or {@link Room.send} |
 */
export class ChatError extends Error {
  constructor(code: string, message: string, options?: { closeCode?: number | null; cause?: unknown });
  readonly code: string;
  /** The code that the connection was closed with; null if it wasn't closed. */
  readonly closeCode: number | null;
}

/** Whether a client may reconnect after its connection was closed with this code. After 4502, 4504 and 4505, it may do
 * so only with another token. */
export function mayReturn(code: number): boolean;

/** The server's time when the message with this id ({@link Frame.id}) was published, to the millisecond. */
export function messageTime(id: number): Date;

/**
 * Enters a room on a connection of its own, which is closed when the room is. Resolves when the room has been entered
 * for the first time. Tries again while the server can't be reached or refuses temporarily (`internal`, `rate_limited`,
 * or `unavailable`); the handler `on.state` gets the reasons. Rejects with a {@link ChatError} if the
 * client was refused permanently, the application aborted, `maxAttempts` have failed, or an option is missing or wrong.
 *
 * A browser doesn't tell a page why a handshake was refused. A `chat-rooms.v1` server therefore refuses a token after
 * the handshake (`no_auth`). A server that answers 401 or 403 looks `unreachable`, and in Chromium so does one that
 * doesn't speak `chat-rooms.v1`.
 */
export function connect(url: string | URL, options: ConnectOptions): Promise<OnlyRoom>;

/**
 * Opens a connection on which the client can be in several rooms. Resolves when the server has accepted the connection
 * and, if there is one, the token. Tries again while the server can't be reached. Rejects with a {@link ChatError} if
 * the client was refused permanently, the application aborted, `maxAttempts` have failed, or an option is wrong.
 *
 * If the client is not authenticated and enters no room in time (10 s by default), the server closes the connection.
 * The chat is `idle` then, and {@link Chat.join} connects again.
 */
export function connect(url: string | URL, options?: ChatOptions): Promise<Chat>;
