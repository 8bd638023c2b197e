CREATE TABLE chat_rooms_messages (
    room TEXT NOT NULL,
    id INTEGER NOT NULL,
    key TEXT,
    connection TEXT,
    user_id TEXT,
    name TEXT,
    body TEXT NOT NULL,
    PRIMARY KEY (room, id)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX chat_rooms_messages_key ON chat_rooms_messages (room, key) WHERE key IS NOT NULL;

-- To delete old messages.
CREATE INDEX chat_rooms_messages_id ON chat_rooms_messages (id);
