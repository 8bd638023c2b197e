//! What the client has asked and the server has not answered yet.

use std::collections::VecDeque;

use crate::machine::RoomKey;

/// What the server will answer. If the client has to authenticate first, it answers with `noAuth`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    Auth,
    Resume,
    Enter(RoomKey),
    /// To leave the room with this id.
    Leave(String),
    /// A page of the roster of a room.
    Members(RoomKey),
    /// A message that was sent when the authentication had expired already.
    Message,
}

/// The oldest first. Answers come in order, except for those to enters of different rooms.
#[derive(Debug, Default)]
pub(super) struct Questions(VecDeque<(Question, u64)>);

impl Questions {
    /// Adds what is asked with the connection's frame of this number.
    pub(super) fn ask(&mut self, question: Question, frame: u64) {
        self.0.push_back((question, frame));
    }

    /// This many messages in flight will be answered with `noAuth`, before everything that is asked next.
    pub(super) fn expect_refusals(&mut self, messages: usize) {
        (0..messages).for_each(|_| self.0.push_front((Question::Message, 0)));
    }

    pub(super) fn has(&self, question: &Question) -> bool {
        self.0.iter().any(|(asked, _)| asked == question)
    }

    /// Whether the answer to an enter, a leave or a resume is missing.
    pub(super) fn has_any_about_rooms(&self) -> bool {
        let is_about_room =
            |asked: &Question| matches!(asked, Question::Resume | Question::Enter(_) | Question::Leave(_));
        self.0.iter().any(|(asked, _)| is_about_room(asked))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn enters(&self) -> usize {
        self.0.iter().filter(|(asked, _)| matches!(asked, Question::Enter(_))).count()
    }

    /// Forgets what concerns rooms that were left meanwhile.
    pub(super) fn forget_rooms(&mut self, is_left: impl Fn(RoomKey) -> bool) {
        let is_forgotten = |asked: &Question| matches!(asked, Question::Enter(key) | Question::Members(key) if is_left(*key));
        self.0.retain(|(asked, _)| !is_forgotten(asked));
    }

    /// Whether the oldest question about this room is a request for a page of its roster.
    pub(super) fn asks_for_members_first(&self, key: RoomKey) -> bool {
        let is_about =
            |asked: &&Question| matches!(asked, Question::Enter(of) | Question::Members(of) if *of == key);
        let oldest = self.0.iter().map(|(asked, _)| asked).find(is_about);
        matches!(oldest, Some(Question::Members(_)))
    }

    /// What the server will answer next, and the number of the frame that has asked it.
    pub(super) fn oldest(&self) -> Option<(&Question, u64)> {
        self.0.front().map(|(question, frame)| (question, *frame))
    }

    /// This was answered, and so was every token and every message before it. A server without authentication answers no
    /// tokens.
    pub(super) fn answer(&mut self, question: &Question) {
        let Some(at) = self.0.iter().position(|(asked, _)| asked == question) else { return };
        let mut place = 0..;
        self.0.retain(|(asked, _)| match place.next() {
            Some(n) if n < at => !matches!(asked, Question::Auth | Question::Message),
            n => n != Some(at),
        });
    }

    /// The oldest question was answered.
    pub(super) fn answer_oldest(&mut self) -> Option<Question> {
        self.0.pop_front().map(|(question, _)| question)
    }
}
