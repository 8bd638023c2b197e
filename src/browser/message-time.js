// The time in the ids of messages.

/** 2020-01-01T00:00:00Z. */
const IDS_BEGIN = 1_577_836_800_000;

/** Ids per millisecond. */
const IDS_PER_MILLISECOND = 4096;

/** The server's time when the message with this id was published. */
export function messageTime(id) { return new Date(IDS_BEGIN + Math.floor(id / IDS_PER_MILLISECOND)); }
