// What the page says, in English and Chinese.

const TEXTS = {
  en: {
    title: 'Chat rooms', tagline: 'Pick a name and a room, and start talking.', name: 'Your name', room: 'Room', roomHint: 'Leave empty for the main room',
    mainRoom: 'Main room', more: 'More options', token: 'Access token', tokenHint: 'Only if the server asks for one', enter: 'Enter room',
    cancel: 'Cancel', leave: 'Leave', back: 'Back', nameMissing: 'Please enter a name.', unreachable: 'Can’t reach the server. Trying again…', notNow: 'The server can’t let you in right now. Trying again…',
    nextTry: 'Trying again in {s} s', countdown: { reconnecting: 'Reconnecting in {s} s', outside: 'Entering again in {s} s' }, online: '{num} online', log: 'Conversation', write: 'Write a message',
    waiting: 'Will be sent when connected', waitingOutside: 'Will be sent when you are back in the room', readOnly: 'You can’t send messages in this room', pending: 'waiting', over: 'This chat has ended', send: 'Send', newer: 'New messages',
    joined: '{name} joined', left: '{name} left', welcome: 'You joined as {name}', says: '{name}: {message}', lost: 'Connection lost. Reconnecting…', again: 'Reconnected', backInRoom: 'You are back in the room', enterAgain: 'Enter again',
    restart: 'The server has closed the connection. Reconnecting…', gap: 'Some messages may be missing here.', unsent: 'Some messages may not have been sent. They are back in the input field.', detail: '{text} ({detail})',
    rooms: 'Rooms', joinRoom: 'Another room', join: 'Join', joinAs: 'Join as {name}', notJoined: 'Can’t enter {room}: {reason}', unread: '{num} unread', unreadFrom: 'New',
    members: 'Members', you: 'you', away: 'away', others: 'and {num} more', notShown: 'This room is too large to show everyone.', noList: 'This room doesn’t show its members.',
    typing: ['{a} is typing…', '{a} and {b} are typing…', 'Several people are typing…'],
    noToken: 'This server requires an access token. Paste yours here, or use the link that you were given.',
    badToken: 'The server does not accept this access token. Paste a new one here, or use the link that you were given.',
    nameTaken: 'Someone in the room is already called {name}. Enter as {other}, or choose another name.',
    state: { online: 'Connected', connecting: 'Connecting…', outside: 'Not in the room', reconnecting: 'Reconnecting…', offline: 'Offline', closed: 'Closed' },
    close: { 1008: 'The server rejected what this page sent.', 4500: 'You were removed from the room.', 4503: 'This chat continues on another connection.', other: 'The server ended the connection.' },
    error: {
      no_auth: 'Access was refused.', token_expired: 'Your access has expired.', bad_name: 'This name can’t be used.', name_taken: 'Someone in the room already has this name.', bad_room_id: 'This room name can’t be used.', denied: 'This is not allowed.', room_full: 'The room is full.', room_closed: 'The room was closed.',
      kicked: 'You were removed from the room.', too_many_rooms: 'The server can’t open another room right now.', too_many_memberships: 'You are in too many rooms. Leave one first.', internal: 'Something went wrong on the server. Please try again.', rate_limited: 'You are doing this too often. Please wait a moment.', unavailable: 'The server can’t do this right now.', bad_frame: 'A message could not be read.',
      overflow: 'Too many messages are waiting to be sent.', too_big: 'This message is too long.', read_only: 'You can’t send messages in this room.', other: 'The server reported a problem.',
    },
  },
  zh: {
    title: '聊天室', tagline: '起个昵称，选个房间，开始聊天吧。', name: '昵称', room: '房间', roomHint: '留空则进入大厅',
    mainRoom: '大厅', more: '更多选项', token: '访问令牌', tokenHint: '仅在服务器要求时填写', enter: '进入房间',
    cancel: '取消', leave: '离开', back: '返回', nameMissing: '请输入昵称。', unreachable: '暂时连不上服务器，正在自动重试…', notNow: '服务器暂时无法让你进入，正在自动重试…',
    nextTry: '{s} 秒后重试', countdown: { reconnecting: '{s} 秒后重新连接', outside: '{s} 秒后重新进入' }, online: '{num} 人在线', log: '聊天记录', write: '输入消息',
    waiting: '连接恢复后发送', waitingOutside: '回到房间后发送', readOnly: '你在这里只能阅读', pending: '等待发送', over: '聊天已结束', send: '发送', newer: '有新消息',
    joined: '{name} 进入了房间', left: '{name} 离开了房间', welcome: '你已进入房间，昵称：{name}', says: '{name}：{message}', lost: '连接已断开，正在重新连接…', again: '已重新连接', backInRoom: '你已回到房间', enterAgain: '重新进入',
    restart: '服务器已断开连接，正在自动重新连接…', gap: '这段时间的消息可能有缺失。', unsent: '部分消息可能没有送达，已放回输入框。', detail: '{text}（{detail}）',
    rooms: '房间', joinRoom: '其他房间', join: '加入', joinAs: '以 {name} 加入', notJoined: '无法进入 {room}：{reason}', unread: '{num} 条未读', unreadFrom: '新消息',
    members: '成员', you: '你', away: '离开', others: '还有 {num} 人', notShown: '房间人数太多，无法显示所有成员。', noList: '这个房间不显示成员。',
    typing: ['{a} 正在输入…', '{a} 和 {b} 正在输入…', '多人正在输入…'],
    noToken: '进入这个服务器需要访问令牌。请在此粘贴，或使用你收到的链接。',
    badToken: '服务器不接受这个访问令牌。请在此粘贴新的令牌，或使用你收到的链接。',
    nameTaken: '房间里已有人叫 {name}。可以用 {other} 进入，或另选一个昵称。',
    state: { online: '已连接', connecting: '正在连接…', outside: '不在房间内', reconnecting: '正在重新连接…', offline: '网络已断开', closed: '已结束' },
    close: { 1008: '服务器拒绝了本页面发送的内容。', 4500: '你已被移出房间。', 4503: '聊天已在另一个连接中继续。', other: '服务器结束了连接。' },
    error: {
      no_auth: '身份验证未通过。', token_expired: '访问权限已过期。', bad_name: '这个昵称不可用。', name_taken: '房间里已有人使用这个昵称。', bad_room_id: '这个房间名不可用。', denied: '没有权限。', room_full: '房间已满。', room_closed: '房间已关闭。',
      kicked: '你已被移出房间。', too_many_rooms: '服务器暂时无法开设更多房间。', too_many_memberships: '你加入的房间太多了，请先离开一个。', internal: '服务器出了点问题，请重试。', rate_limited: '操作太快了。', unavailable: '服务器暂时无法处理，请稍后重试。', bad_frame: '有一条消息无法读取。',
      overflow: '等待发送的消息太多了。', too_big: '这条消息太长了。', read_only: '你在这里只能阅读。', other: '服务器报告了一个问题。',
    },
  },
};

export const query = new URLSearchParams(location.search);
export const lang = /^zh/i.test(query.get('lang') || navigator.language) ? 'zh' : 'en';
/** A setting of the host. */
export const setting = (name) => document.querySelector(`meta[name="chat-${name}"]`).content;
export const t = { ...TEXTS[lang], title: setting('title') || TEXTS[lang].title };

export const fill = (template, values) => template.replace(/\{(\w+)\}/g, (_, key) => values[key]);

const clock = timeFormat({ hour: 'numeric', minute: '2-digit' });
const calendar = timeFormat({ day: 'numeric', month: 'short', hour: 'numeric', minute: '2-digit' });

function timeFormat(format) {
  try {
    return new Intl.DateTimeFormat(query.has('lang') ? lang : navigator.language, format);
  } catch { return new Intl.DateTimeFormat(lang, format); } // Some browsers report "C", which is not a language.
}

/** A time, with its day unless that is today. */
export function timeText(at) {
  const isToday = new Date(at).toDateString() === new Date().toDateString();
  return (isToday ? clock : calendar).format(at);
}

export const roomTitle = (id) => id || t.mainRoom;

/** Why the server has refused something, or has ended the chat. */
export function explain({ code, closeCode, message }) {
  const text = code === 'closed' ? t.close[closeCode] ?? t.close.other : t.error[code] ?? t.error.other;
  return message ? fill(t.detail, { text, detail: message }) : text;
}

/** Why the server has not let the user in yet. The page tries again. */
export function explainFailure(failure) {
  if (t.error[failure.code]) return explain(failure);
  return { 1011: t.notNow, 1012: t.restart, 1013: t.notNow }[failure.closeCode] ?? t.unreachable;
}

/** A name like this one that nobody in `taken` has. */
export function otherName(name, taken = [name]) {
  const [, base, number] = /^(.*?)(?: (\d{1,3}))?$/su.exec(name);
  for (let n = Number(number ?? 1) + 1; ; n += 1) {
    const other = `${base.slice(0, 58)} ${n}`;
    if (!taken.includes(other)) return other;
  }
}
