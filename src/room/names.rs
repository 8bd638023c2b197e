//! The names in a room where each may be used only once.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::config::UniqueNames;
use crate::ids::{ConnectionId, Name};

#[derive(Debug)]
pub(crate) struct NameRegistry {
    any_case: bool,
    holders: HashMap<Box<str>, Holder>,
}

/// The holder of a name.
#[derive(Debug)]
struct Holder {
    connection: ConnectionId,
    /// The user whose connections may share it.
    owner: Option<Box<str>>,
    /// How often it is held: by several connections of the user, or by one that is changing its name.
    times: usize,
}

/// Another member has the name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NameTaken {
    /// The member, if it is anonymous: a user takes precedence over it if the name is the user's own.
    pub(crate) anonymous: Option<ConnectionId>,
}

impl NameRegistry {
    pub(crate) fn new(unique_names: UniqueNames) -> Option<NameRegistry> {
        Some(NameRegistry { any_case: any_case(unique_names)?, holders: HashMap::new() })
    }

    /// Takes a name for a connection, until it has been released the same number of times.
    pub(crate) fn take(
        &mut self,
        name: &Name,
        connection: ConnectionId,
        owner: Option<&str>,
    ) -> Result<(), NameTaken> {
        let key = self.key(name);
        if let Some(holder) = self.holders.get_mut(&*key) {
            let is_own =
                holder.connection == connection || owner.is_some() && holder.owner.as_deref() == owner;
            if !is_own {
                let anonymous = holder.owner.is_none().then_some(holder.connection);
                return Err(NameTaken { anonymous });
            }
            holder.times += 1;
            return Ok(());
        }
        let (key, owner) = (key.into_owned().into(), owner.map(Into::into));
        self.holders.insert(key, Holder { connection, owner, times: 1 });
        Ok(())
    }

    /// The member that has this name, if it is anonymous.
    pub(crate) fn anonymous_holder(&self, name: &Name) -> Option<ConnectionId> {
        let holder = self.holders.get(&*self.key(name))?;
        holder.owner.is_none().then_some(holder.connection)
    }

    /// Notes that the member with this name has authenticated as this user. If the user has a name of its own and it is
    /// another one, the member still counts as anonymous: the name may be another user's own.
    pub(crate) fn set_owner(
        &mut self,
        name: &Name,
        connection: ConnectionId,
        owner: &str,
        own_name: Option<&Name>,
    ) {
        let key = self.key(name);
        if own_name.is_some_and(|own| self.key(own) != key) {
            return;
        }
        if let Some(holder) = self.holders.get_mut(&*key).filter(|holder| holder.connection == connection) {
            holder.owner = Some(owner.into());
        }
    }

    pub(crate) fn release(&mut self, name: &Name) {
        let key = self.key(name);
        let Some(holder) = self.holders.get_mut(&*key) else { return };
        holder.times -= 1;
        if holder.times == 0 {
            self.holders.remove(&*key);
        }
    }

    fn key<'a>(&self, name: &'a Name) -> Cow<'a, str> {
        key(name, self.any_case)
    }
}

/// What is the same for all names that count as one; `None` if names may be shared.
pub(crate) fn name_key(unique_names: UniqueNames, name: &Name) -> Option<Cow<'_, str>> {
    Some(key(name, any_case(unique_names)?))
}

fn any_case(unique_names: UniqueNames) -> Option<bool> {
    match unique_names {
        UniqueNames::Off => None,
        UniqueNames::Exact => Some(false),
        UniqueNames::AnyCase => Some(true),
    }
}

fn key(name: &Name, any_case: bool) -> Cow<'_, str> {
    let name = name.trimmed();
    if any_case {
        // First to upper case, because some letters differ only in lower case: ß and ss, s and ſ, σ and ς.
        return name.to_uppercase().to_lowercase().into();
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::MaxLen;

    const BY_ANONYMOUS: NameTaken = NameTaken { anonymous: Some(ConnectionId(1)) };

    const BY_USER: NameTaken = NameTaken { anonymous: None };

    fn name(text: &str) -> Name {
        Name::parse(text, MaxLen::ANY).unwrap()
    }

    #[test]
    fn a_name_is_taken_until_it_is_released() {
        assert!(NameRegistry::new(UniqueNames::Off).is_none());
        let mut names = NameRegistry::new(UniqueNames::Exact).unwrap();
        let [one, two, three] = [1, 2, 3].map(ConnectionId);
        let (ann, bob) = ("ann", "bob");
        assert_eq!(names.take(&name("x"), one, None), Ok(()));
        assert_eq!(names.take(&name("x"), two, None), Err(BY_ANONYMOUS));
        assert_eq!(names.take(&name("x"), two, Some(ann)), Err(BY_ANONYMOUS));
        assert_eq!(names.take(&name("x"), one, None), Ok(()));
        names.release(&name("x"));
        assert_eq!(names.take(&name("x"), two, None), Err(BY_ANONYMOUS));
        assert_eq!(names.anonymous_holder(&name("x")), Some(one));
        names.release(&name("x"));
        assert_eq!(names.anonymous_holder(&name("x")), None);
        assert_eq!(names.take(&name("x"), two, Some(ann)), Ok(()));
        assert_eq!(names.anonymous_holder(&name("x")), None);
        assert_eq!(names.take(&name("x"), three, Some(ann)), Ok(()));
        assert_eq!(names.take(&name("x"), three, Some(bob)), Err(BY_USER));
        assert_eq!(names.take(&name("X"), three, Some(bob)), Ok(()));
        names.release(&name("never taken"));
        for text in ["x", "x", "X"] {
            names.release(&name(text));
        }
        assert!(names.holders.is_empty());
    }

    #[test]
    fn a_user_with_a_name_of_its_own_owns_no_other() {
        let mut names = NameRegistry::new(UniqueNames::AnyCase).unwrap();
        let [one, two] = [1, 2].map(ConnectionId);
        assert_eq!(names.take(&name("ann"), one, None), Ok(()));
        names.set_owner(&name("ann"), one, "bob", Some(&name("Bob")));
        assert_eq!(names.take(&name("Ann"), two, Some("bob")), Err(BY_ANONYMOUS));
        names.set_owner(&name("ann"), two, "ann", None);
        assert_eq!(names.anonymous_holder(&name("ann")), Some(one));
        names.set_owner(&name("ann"), one, "ann", Some(&name("Ann ")));
        assert_eq!(names.take(&name("Ann"), two, Some("ann")), Ok(()));
        assert_eq!(names.take(&name("Ann"), two, Some("bob")), Err(BY_USER));
    }

    #[test]
    fn any_case_is_one_name() {
        for (a, b) in
            [("Ann", "aNN"), ("ΟΔΟΣ", "οδος"), ("Straße", "STRASSE"), ("ÉCOLE", "école"), ("ſ", "s")]
        {
            let mut names = NameRegistry::new(UniqueNames::AnyCase).unwrap();
            assert_eq!(names.take(&name(a), ConnectionId(1), None), Ok(()));
            assert_eq!(names.take(&name(b), ConnectionId(2), None), Err(BY_ANONYMOUS), "{a} {b}");
            names.release(&name(b));
            assert!(names.holders.is_empty());
        }
    }
}
