/// Whether several members of a room may have the same name.
///
/// The connections of one user may always share a name. A name stays taken while its member's session is kept
/// for resuming. Names that only look alike are different ([`Name`](crate::Name)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum UniqueNames {
    /// Several members may have the same name.
    #[default]
    Off,
    /// Each name is unique in its room. `Ann` and `ann` are different names.
    Exact,
    /// Each name is unique in its room regardless of case: `Ann`, `ann` and `ANN` are one name, by Unicode's rules
    /// of upper and lower case.
    AnyCase,
}
