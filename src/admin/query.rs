//! The parameters of a request.

use crate::admin::answer::Refused;

/// Entries of a page, unless the request asks for another number.
const DEFAULT_LIMIT: usize = 100;

/// Entries that a request may ask for.
pub(super) const MAX_LIMIT: usize = 1000;

/// The parameters that have not been taken yet.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `application/x-www-form-urlencoded`, as browsers write it.
    pub(super) fn parse(text: &str) -> Result<Query, Refused> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        });
        let pairs: Option<Vec<_>> = pairs.collect();
        pairs.map(Query).ok_or_else(|| {
            Refused::bad_request(
                "a parameter is not percent-encoded UTF-8: encode it, as `encodeURIComponent` does",
            )
        })
    }

    /// The value of a parameter.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.remove(at).1)
    }

    /// The value of a parameter that must be there.
    pub(super) fn required(&mut self, name: &str) -> Result<String, Refused> {
        self.take(name).ok_or_else(|| Refused::bad_request(format!("the parameter `{name}` is missing")))
    }

    /// How many entries the answer may have.
    pub(super) fn limit(&mut self) -> Result<usize, Refused> {
        let Some(text) = self.take("limit") else { return Ok(DEFAULT_LIMIT) };
        text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit)).ok_or_else(|| {
            Refused::bad_request(format!("`limit` is {text:?}; it must be a number from 1 to {MAX_LIMIT}"))
        })
    }

    /// Fails if there is a parameter that was not taken.
    pub(super) fn finish(self) -> Result<(), Refused> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Refused::bad_request(format!(
                "the parameter {name:?} is unknown here, or is given twice; see the documentation of `Admin`"
            ))),
        }
    }
}

/// The text of a name or a value. `None` if it is not percent-encoded UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_as_browsers_encode_them() {
        let mut query = Query::parse("id=a%2Fb%20c+d%26%C3%BC&empty=&flag&limit=7").unwrap();
        assert_eq!(query.take("id").as_deref(), Some("a/b c d&ü"));
        assert_eq!(query.take("empty").as_deref(), Some(""));
        assert_eq!(query.take("flag").as_deref(), Some(""));
        assert_eq!((query.take("id"), query.limit().unwrap()), (None, 7));
        query.finish().unwrap();
        for text in ["id=%", "id=%4", "id=%zz", "id=%ff", "%80=1", "id=%+1"] {
            assert!(Query::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_are_bounded_and_nothing_is_ignored() {
        assert_eq!(Query::parse("").unwrap().limit().unwrap(), DEFAULT_LIMIT);
        for text in ["limit=0", "limit=1001", "limit=-1", "limit=", "limit=ten"] {
            assert!(Query::parse(text).unwrap().limit().is_err(), "{text}");
        }
        for text in ["limits=5", "limit=5&limit=6"] {
            let mut query = Query::parse(text).unwrap();
            let _ = query.limit();
            assert!(query.finish().is_err(), "{text}");
        }
    }
}
