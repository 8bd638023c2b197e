//! Whose the names in a room are, where each may be there only once.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::config::UniqueNames;
use crate::hooks::user::User;
use crate::ids::{ConnectionId, Name};

#[derive(Debug)]
pub(crate) struct NameBook {
    any_case: bool,
    holders: HashMap<Box<str>, Holder>,
}

/// Who has a name.
#[derive(Debug)]
struct Holder {
    connection: ConnectionId,
    user: Option<Box<str>>,
    /// So many times he has it: by several connections, or on his way from one name to another.
    times: usize,
}

/// Somebody else has the name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NameTaken;

impl NameBook {
    pub(crate) fn new(unique_names: UniqueNames) -> Option<NameBook> {
        let any_case = match unique_names {
            UniqueNames::Off => return None,
            UniqueNames::Exact => false,
            UniqueNames::AnyCase => true,
        };
        Some(NameBook { any_case, holders: HashMap::new() })
    }

    /// The name is his until it has been given back as often.
    pub(crate) fn take(
        &mut self,
        name: &Name,
        connection: ConnectionId,
        user: Option<&User>,
    ) -> Result<(), NameTaken> {
        let user = user.map(User::id);
        let key = self.key(name);
        if let Some(holder) = self.holders.get_mut(&*key) {
            let is_his = holder.connection == connection || user.is_some() && holder.user.as_deref() == user;
            if !is_his {
                return Err(NameTaken);
            }
            holder.times += 1;
            return Ok(());
        }
        let (key, user) = (key.into_owned().into(), user.map(Into::into));
        self.holders.insert(key, Holder { connection, user, times: 1 });
        Ok(())
    }

    pub(crate) fn give_back(&mut self, name: &Name) {
        let key = self.key(name);
        let Some(holder) = self.holders.get_mut(&*key) else { return };
        holder.times -= 1;
        if holder.times == 0 {
            self.holders.remove(&*key);
        }
    }

    fn key<'a>(&self, name: &'a Name) -> Cow<'a, str> {
        let name = name.trimmed();
        if self.any_case {
            // First to upper case, because some letters differ only in lower case: ß and ss, s and ſ, σ and ς.
            return name.to_uppercase().to_lowercase().into();
        }
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::MaxLen;

    fn name(text: &str) -> Name {
        Name::parse(text, MaxLen::ANY).unwrap()
    }

    #[test]
    fn a_name_is_somebodys_until_it_is_given_back() {
        assert!(NameBook::new(UniqueNames::Off).is_none());
        let mut book = NameBook::new(UniqueNames::Exact).unwrap();
        let [one, two, three] = [1, 2, 3].map(ConnectionId);
        let [ann, bob] = ["ann", "bob"].map(User::new);
        assert_eq!(book.take(&name("x"), one, None), Ok(()));
        assert_eq!(book.take(&name("x"), two, None), Err(NameTaken));
        assert_eq!(book.take(&name("x"), two, Some(&ann)), Err(NameTaken));
        assert_eq!(book.take(&name("x"), one, None), Ok(()));
        book.give_back(&name("x"));
        assert_eq!(book.take(&name("x"), two, None), Err(NameTaken));
        book.give_back(&name("x"));
        assert_eq!(book.take(&name("x"), two, Some(&ann)), Ok(()));
        assert_eq!(book.take(&name("x"), three, Some(&ann)), Ok(()));
        assert_eq!(book.take(&name("x"), three, Some(&bob)), Err(NameTaken));
        assert_eq!(book.take(&name("X"), three, Some(&bob)), Ok(()));
        book.give_back(&name("never taken"));
        for text in ["x", "x", "X"] {
            book.give_back(&name(text));
        }
        assert!(book.holders.is_empty());
    }

    #[test]
    fn any_case_is_one_name() {
        for (a, b) in
            [("Ann", "aNN"), ("ΟΔΟΣ", "οδος"), ("Straße", "STRASSE"), ("ÉCOLE", "école"), ("ſ", "s")]
        {
            let mut book = NameBook::new(UniqueNames::AnyCase).unwrap();
            assert_eq!(book.take(&name(a), ConnectionId(1), None), Ok(()));
            assert_eq!(book.take(&name(b), ConnectionId(2), None), Err(NameTaken), "{a} {b}");
            book.give_back(&name(b));
            assert!(book.holders.is_empty());
        }
    }
}
