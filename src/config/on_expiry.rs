/// What happens to a connection when its user expires ([`User::expires_at`](crate::User::expires_at)) and the
/// client has not sent a newer token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnExpiry {
    /// It gets `noAuth` and is closed with 4504, which tells the client to stay away.
    #[default]
    Close,
    /// It leaves its rooms and gets `noAuth`.
    ///
    /// The connection stays open for [`auth_timeout`](crate::Timeouts::auth_timeout). In that time the same
    /// user can send a new token and enter again.
    ///
    /// Meanwhile it gets nothing that is for its user, and does not count as a session of the user
    /// ([`is_online`](crate::ChatRooms::is_online)). If it was the last one, the user is
    /// [`offline`](crate::RoomEvents::offline), and [`online`](crate::RoomEvents::online) again after the new token.
    WaitForAuth,
}
