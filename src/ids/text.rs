//! Which texts may name something: those in which there is nothing that nobody sees.
//!
//! What can't be seen lets one name look like another, or turn the text around it. Some of it is
//! part of how words and emoji are written, though, and is taken in its place: joiners in Indic
//! and Arabic scripts and between the parts of an emoji, and variation selectors behind what they
//! select.

use std::fmt;

const ZWNJ: char = '\u{200c}';
const ZWJ: char = '\u{200d}';
const EMOJI_STYLE: char = '\u{fe0f}';

/// What is wrong with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Control(char),
    /// It changes the direction of what follows.
    Direction(char),
    Invisible(char),
    /// White space at the beginning or the end.
    Space,
}

/// The first fault of a text.
pub(crate) fn check(text: &str) -> Result<(), Fault> {
    if text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(());
    }
    let mut chars = text.chars().peekable();
    let mut before = None;
    while let Some(c) = chars.next() {
        let after = chars.peek().copied();
        if c.is_control() {
            return Err(Fault::Control(c));
        }
        if turns(c) {
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
    }
    if text.starts_with(is_blank) || text.ends_with(is_blank) { Err(Fault::Space) } else { Ok(()) }
}

fn is_blank(c: char) -> bool {
    // The braille pattern without dots.
    c.is_whitespace() || c == '\u{2800}'
}

fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What is never shown, wherever it stands: what Unicode calls default-ignorable, the separators of
/// lines and paragraphs, and what is no character.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}'
        | '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}' | '\u{fdd0}'..='\u{fdef}')
        || c as u32 & 0xfffe == 0xfffe
}

/// A joiner stands beside a virama (RFC 5892, appendix A), or between two that it can join.
fn joins(before: Option<char>, after: Option<char>, can_be_joined: fn(char) -> bool) -> bool {
    before.is_some_and(is_virama)
        || after.is_some_and(is_virama) && before.is_some_and(char::is_alphabetic)
        || before.is_some_and(can_be_joined) && after.is_some_and(can_be_joined)
}

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

/// A part of an emoji.
fn is_pictograph(c: char) -> bool {
    matches!(c,
        '\u{2190}'..='\u{21ff}' | '\u{2300}'..='\u{23ff}' | '\u{2460}'..='\u{24ff}' | '\u{25a0}'..='\u{27bf}'
        | '\u{2900}'..='\u{297f}' | '\u{2b00}'..='\u{2bff}' | '\u{3030}' | '\u{303d}' | '\u{3297}' | '\u{3299}'
        | '\u{1f000}'..='\u{1faff}' | EMOJI_STYLE)
}

/// Of a script whose letters are joined as they stand, as the Arabic ones are.
fn is_cursive(c: char) -> bool {
    matches!(c, '\u{610}'..='\u{8ff}' | '\u{1820}'..='\u{18aa}' | '\u{1e900}'..='\u{1e95f}')
}

/// What takes the vowel off a consonant in Indic scripts (canonical combining class 9).
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
            Fault::Control(c) => write!(f, "holds the control character U+{:04X}", c as u32),
            Fault::Direction(c) => {
                write!(f, "holds U+{:04X}, which changes the direction of the text", c as u32)
            }
            Fault::Invisible(c) => write!(f, "holds U+{:04X}, which can't be seen there", c as u32),
            Fault::Space => f.write_str("begins or ends with white space"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_turns_text_is_found_wherever_it_stands(text in "[\\PC\u{200d}\u{fe0f}🏽👩क्ع]{0,12}", at in 0..12usize) {
            let mut chars: Vec<char> = text.chars().collect();
            let good = check(&text);
            chars.insert(at.min(chars.len()), '\u{202e}');
            let turned = check(&chars.iter().collect::<String>());
            prop_assert!(matches!(turned, Err(Fault::Direction(_) | Fault::Invisible(_) | Fault::Control(_))));
            // What is good in the middle of white space is good in the middle of letters.
            if good.is_ok() && !text.is_empty() {
                let padded = format!("a {text} b");
                prop_assert_eq!(check(&padded), Ok(()));
                prop_assert_eq!(check(&format!("{text} ")), Err(Fault::Space));
            }
        }
    }

    #[test]
    fn names_of_all_the_world() {
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
        ] {
            assert_eq!(check(text), Ok(()), "{text:?}");
        }
    }

    #[test]
    fn what_nobody_sees_is_found() {
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
        // In its script, but where it does nothing.
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
        ] {
            assert!(matches!(check(text), Err(Fault::Invisible(_))), "{text:?}");
        }
        for text in [" ann", "ann ", "\u{3000}ann", "ann\u{a0}", " ", "\u{2800}"] {
            assert_eq!(check(text), Err(Fault::Space), "{text:?}");
        }
    }
}
