//! Which texts can be a name or a room id: those without invisible characters.
//!
//! Invisible characters make different names look the same, and some change the direction of the text around them.
//! But words and emoji need a few of them, which are accepted where they belong: joiners in Indic and Arabic
//! scripts and within emoji, variation selectors after a character that has variants, and the tags of flags.

use std::fmt;

const ZWNJ: char = '\u{200c}';
const ZWJ: char = '\u{200d}';
const EMOJI_STYLE: char = '\u{fe0f}';
const BLACK_FLAG: char = '\u{1f3f4}';
const CANCEL_TAG: char = '\u{e007f}';

/// Why a text is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Control(char),
    /// The character changes the direction of the text.
    Direction(char),
    Invisible(char),
}

/// Returns the first character that is not allowed.
pub(crate) fn check(text: &str) -> Result<(), Fault> {
    if text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(());
    }
    let mut chars = text.chars();
    let mut before = None;
    while let Some(c) = chars.next() {
        let after = chars.clone().next();
        if c.is_control() {
            return Err(Fault::Control(c));
        }
        if changes_direction(c) {
            return Err(Fault::Direction(c));
        }
        let is_in_place = match c {
            ZWNJ => joins(before, after, is_cursive),
            ZWJ => joins(before, after, is_pictograph),
            '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' | '\u{180b}'..='\u{180d}' | '\u{180f}' => {
                before.is_some_and(|before| selects(c, before, after))
            }
            _ => !is_invisible(c),
        };
        if !is_in_place {
            return Err(Fault::Invisible(c));
        }
        before = Some(c);
        if c == BLACK_FLAG
            && let Some(rest) = strip_flag_tags(chars.as_str())
        {
            chars = rest.chars();
            before = Some(CANCEL_TAG);
        }
    }
    Ok(())
}

/// Whether a character looks like a space.
pub(super) fn is_blank(c: char) -> bool {
    // U+2800 is the braille pattern without dots.
    c.is_whitespace() || c == '\u{2800}'
}

fn changes_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a character is never shown: Unicode's default-ignorable characters, line and paragraph separators, and
/// noncharacters.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}'
        | '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}' | '\u{fdd0}'..='\u{fdef}')
        || c as u32 & 0xfffe == 0xfffe
}

/// Whether a joiner is where it belongs: next to a virama (RFC 5892, appendix A), or between two characters that it
/// can join.
fn joins(before: Option<char>, after: Option<char>, can_be_joined: fn(char) -> bool) -> bool {
    before.is_some_and(is_virama)
        || after.is_some_and(is_virama) && before.is_some_and(char::is_alphabetic)
        || before.is_some_and(can_be_joined) && after.is_some_and(can_be_joined)
}

/// Removes the tags of a flag from the text that follows the black flag: those of a region and its subdivision, such
/// as `gbsct` for Scotland, and the cancel tag (UTS #51, emoji tag sequences).
fn strip_flag_tags(text: &str) -> Option<&str> {
    let (tags, rest) = text.split_once(CANCEL_TAG)?;
    // Each tag character stands for the ASCII character 0xe0000 below it.
    let tag = |c: char| u32::from(c).checked_sub(0xe0000).and_then(|c| u8::try_from(c).ok());
    let mut len = 0;
    for c in tags.chars() {
        let is_valid = tag(c).is_some_and(|c| c.is_ascii_lowercase() || len >= 2 && c.is_ascii_digit());
        if !is_valid {
            return None;
        }
        len += 1;
    }
    (3..=5).contains(&len).then_some(rest)
}

/// Whether a variation selector follows a character that has variants.
fn selects(selector: char, before: char, after: Option<char>) -> bool {
    match selector {
        '\u{fe0e}' | EMOJI_STYLE => match before {
            '0'..='9' | '#' | '*' => after == Some('\u{20e3}'),
            '©' | '®' | '‼' | '⁉' | '™' | 'ℹ' => true,
            EMOJI_STYLE => false,
            before => is_pictograph(before),
        },
        '\u{180b}'..='\u{180f}' => matches!(before, '\u{1820}'..='\u{18aa}'),
        _ => matches!(before,
            '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}'),
    }
}

/// Whether a character can be a part of an emoji.
fn is_pictograph(c: char) -> bool {
    matches!(c,
        '\u{2190}'..='\u{21ff}' | '\u{2300}'..='\u{23ff}' | '\u{2460}'..='\u{24ff}' | '\u{25a0}'..='\u{27bf}'
        | '\u{2900}'..='\u{297f}' | '\u{2b00}'..='\u{2bff}' | '\u{3030}' | '\u{303d}' | '\u{3297}' | '\u{3299}'
        | '\u{1f000}'..='\u{1faff}' | EMOJI_STYLE)
}

/// Whether a character is of a script whose letters are connected, as in Arabic.
fn is_cursive(c: char) -> bool {
    matches!(c, '\u{610}'..='\u{8ff}' | '\u{1820}'..='\u{18aa}' | '\u{1e900}'..='\u{1e95f}')
}

/// Whether a character removes the vowel of a consonant in Indic scripts (canonical combining class 9).
fn is_virama(c: char) -> bool {
    matches!(
        c as u32,
        0x94d
            | 0x9cd
            | 0xa4d
            | 0xacd
            | 0xb4d
            | 0xbcd
            | 0xc4d
            | 0xccd
            | 0xd3b
            | 0xd3c
            | 0xd4d
            | 0xdca
            | 0xe3a
            | 0xeba
            | 0xf84
            | 0x1039
            | 0x103a
            | 0x1714
            | 0x1715
            | 0x1734
            | 0x17d2
            | 0x1a60
            | 0x1b44
            | 0x1baa
            | 0x1bab
            | 0x1bf2
            | 0x1bf3
            | 0x2d7f
            | 0xa806
            | 0xa82c
            | 0xa8c4
            | 0xa953
            | 0xa9c0
            | 0xaaf6
            | 0xabed
            | 0x10a3f
            | 0x11046
            | 0x11070
            | 0x1107f
            | 0x110b9
            | 0x11133
            | 0x11134
            | 0x111c0
            | 0x11235
            | 0x112ea
            | 0x1134d
            | 0x11442
            | 0x114c2
            | 0x115bf
            | 0x1163f
            | 0x116b6
            | 0x1172b
            | 0x11839
            | 0x1193d
            | 0x1193e
            | 0x119e0
            | 0x11a34
            | 0x11a47
            | 0x11a99
            | 0x11c3f
            | 0x11d44
            | 0x11d45
            | 0x11d97
            | 0x11f41
            | 0x11f42
    )
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Fault::Control(c) => write!(f, "contains the control character U+{:04X}", c as u32),
            Fault::Direction(c) => {
                write!(f, "contains U+{:04X}, which changes the direction of the text", c as u32)
            }
            Fault::Invisible(c) => write!(f, "contains U+{:04X}, which is invisible there", c as u32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn changes_of_direction_are_found_everywhere(text in "[\\PC\u{200d}\u{fe0f}🏽👩क्ع]{0,12}", at in 0..12usize) {
            let mut chars: Vec<char> = text.chars().collect();
            let good = check(&text);
            chars.insert(at.min(chars.len()), '\u{202e}');
            let turned = check(&chars.iter().collect::<String>());
            prop_assert!(matches!(turned, Err(Fault::Direction(_) | Fault::Invisible(_) | Fault::Control(_))));
            // Spaces and letters around a text do not matter.
            if good.is_ok() {
                prop_assert_eq!(check(&format!("a {text} b")), Ok(()));
            }
        }
    }

    #[test]
    fn names_in_all_scripts_are_accepted() {
        for text in [
            "Ann Lee",
            "O'Neil <3",
            "José",
            "小明",
            "葛\u{e0100}城",
            "김철수",
            "Ольга",
            "שלום",
            "عبد الله",
            // Persian and Sindhi with a non-joiner, Hindi, Sinhala, Malayalam and Bengali with joiners.
            "علی\u{200c}رضا",
            "می\u{200c}نا",
            "क्\u{200d}ष",
            "ශ්\u{200d}රී",
            "അവന്\u{200d}",
            "র\u{200d}্যাব",
            "👩\u{200d}💻",
            "👩🏽\u{200d}🚀",
            "❤\u{fe0f}\u{200d}🔥",
            "🏳\u{fe0f}\u{200d}🌈",
            "1\u{fe0f}\u{20e3}",
            "☃\u{fe0e}",
            "ℹ\u{fe0f}",
            "🅰\u{fe0f}",
            "🇺🇦",
            "👨\u{200d}👩\u{200d}👧\u{200d}👦",
            "a\u{a0}b",
            "a\u{3000}b",
            "ᠮᠣᠩᠭᠣᠯ\u{180b}",
            "x\u{20d0}",
            // The flags of England, Scotland and Wales.
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
            "a🏴\u{e0067}\u{e0062}\u{e0077}\u{e006c}\u{e0073}\u{e007f}b",
            "🏴\u{200d}☠\u{fe0f}",
            " ann ",
            "\u{3000}",
        ] {
            assert_eq!(check(text), Ok(()), "{text:?}");
        }
    }

    #[test]
    fn invisible_characters_are_refused() {
        for c in ['\0', '\n', '\u{7f}', '\u{85}', '\u{9f}'] {
            assert_eq!(check(&format!("a{c}b")), Err(Fault::Control(c)));
        }
        for c in [
            '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}', '\u{2067}', '\u{2068}',
            '\u{2069}', '\u{200e}', '\u{200f}', '\u{61c}',
        ] {
            assert_eq!(check(&format!("a{c}b")), Err(Fault::Direction(c)));
        }
        for c in [
            '\u{ad}',
            '\u{34f}',
            '\u{1160}',
            '\u{3164}',
            '\u{ffa0}',
            '\u{200b}',
            '\u{2028}',
            '\u{2029}',
            '\u{2060}',
            '\u{2064}',
            '\u{206f}',
            '\u{feff}',
            '\u{fffa}',
            '\u{1d173}',
            '\u{e0001}',
            '\u{e0061}',
            '\u{e007f}',
            '\u{e0fff}',
            '\u{fdd0}',
            '\u{ffff}',
            '\u{10fffe}',
            '\u{180e}',
            ZWNJ,
            ZWJ,
            EMOJI_STYLE,
            '\u{fe00}',
            '\u{e0100}',
            '\u{180b}',
        ] {
            assert_eq!(check(&format!("a{c}b")), Err(Fault::Invisible(c)), "{:x}", c as u32);
            assert_eq!(check(&c.to_string()), Err(Fault::Invisible(c)), "{:x}", c as u32);
        }
        // Characters of the right script, but in a place where they do nothing.
        for text in [
            "علی\u{200c}",
            "\u{200c}علی",
            "👩\u{200d}",
            "\u{200d}👩",
            "👩\u{200d}a",
            "小\u{fe0f}",
            "1\u{fe0f}",
            "❤\u{fe0f}\u{fe0f}",
            "葛\u{e0100}\u{e0101}",
            "क\u{200d}ष",
            // Tags that are not those of a flag: unterminated, too few, too many, of other characters, elsewhere.
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}a\u{e007f}",
            "🏴\u{e007f}",
            "🏴\u{e0067}\u{e0062}\u{e007f}",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e0067}\u{e0067}\u{e007f}",
            "🏴\u{e0067}\u{e0062}\u{e0045}\u{e007f}",
            "🏴\u{e0031}\u{e0062}\u{e0065}\u{e007f}",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}\u{e007f}",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}\u{200d}☠",
            "🏴\u{fe0f}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "🏳\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "a\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
        ] {
            assert!(matches!(check(text), Err(Fault::Invisible(_))), "{text:?}");
        }
    }
}
