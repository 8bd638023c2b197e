// Names in other tabs of this browser, so that two tabs suggest different ones.

const channel = globalThis.BroadcastChannel && new BroadcastChannel('chat-rooms');

/** Answers other tabs with the name that `current()` returns, if any. */
export function tellOtherTabs(current) {
  channel?.addEventListener('message', ({ data }) => {
    const name = current();
    if (data === 'ask' && name) channel.postMessage({ name });
  });
}

/** Calls `taken` with the name of each other tab that is in a chat. */
export function askOtherTabs(taken) {
  channel?.addEventListener('message', ({ data }) => typeof data?.name === 'string' && taken(data.name));
  channel?.postMessage('ask');
}
