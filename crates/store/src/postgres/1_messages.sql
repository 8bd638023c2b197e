-- The collation "C" compares bytes, which is faster and never changes.
CREATE TABLE chat_rooms_messages (
    room TEXT COLLATE "C" NOT NULL,
    id BIGINT NOT NULL,
    key TEXT COLLATE "C",
    connection TEXT,
    user_id TEXT,
    name TEXT,
    body TEXT NOT NULL,
    PRIMARY KEY (room, id)
);

CREATE UNIQUE INDEX chat_rooms_messages_key ON chat_rooms_messages (room, key) WHERE key IS NOT NULL;

-- To delete old messages.
CREATE INDEX chat_rooms_messages_id ON chat_rooms_messages (id);
