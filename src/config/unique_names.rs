/// Whether a name may be in a room more than once.
///
/// The connections of one user may always share a name. A name stays taken while its member's session is kept
/// for resuming. Names that only look alike are different ([`Name`](crate::Name)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum UniqueNames {
    /// Any number of times.
    #[default]
    Off,
    /// Once. `Ann` and `ann` are different names.
    Exact,
    /// Once in any case: `Ann`, `ann` and `ANN` are one name, by Unicode's rules of upper and lower case.
    AnyCase,
}
