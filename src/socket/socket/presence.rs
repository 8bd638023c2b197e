//! Presence frames: a client that cannot accept them gets the newest counts once it has caught up.

use super::Socket;
use crate::delivery::LiveRoom;
use crate::protocol::frame;
use crate::protocol::presence::PresenceFrame;
use crate::socket::send_queue::Kind;
use crate::socket::subscription::Subscription;

impl Socket {
    /// Writes presence frames, which follow the room's frame with this `seq`, if the I/O accepts all of them now.
    /// Otherwise the client gets the room's counts and mode as soon as it has caught up.
    pub(crate) fn deliver_presence(&mut self, room: &LiveRoom, seq: u64, version: u32, frames: [&[u8]; 3]) {
        let is_mute = self.is_mute();
        let Some(subscription) = self.subscriptions.find(room) else { return };
        if is_mute || subscription.includes_presence(version) || frames.iter().all(|frames| frames.is_empty())
        {
            return;
        }
        let is_next = subscription.is_at(seq);
        if !is_next || frames.map(|frames| self.outlet.write_or_drop(frames)) != [0; 3] {
            self.subscriptions.find(room).map(Subscription::miss_presence);
            self.send_missed_presence();
        }
    }

    /// Tells the client the counts and modes of rooms whose presence frames it has missed, if it has caught up.
    pub(super) fn send_missed_presence(&mut self) {
        while self.outlet.queue().is_empty()
            && !self.is_mute()
            && let Some(room) = self.subscriptions.take_missed_presence()
        {
            let text = PresenceFrame {
                room: room.id().as_str(),
                mode: room.mode(),
                num: room.online() as u64,
                users: room.users(),
            };
            self.write(Kind::Own, Some(&room), &frame::text(text.encode().as_bytes()), 0);
        }
    }
}
