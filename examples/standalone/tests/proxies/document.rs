//! The configurations in docs/cookbook/proxies.md.

const DOCUMENT: &str = include_str!("../../../../docs/cookbook/proxies.md");

/// The code blocks in this language.
pub(crate) fn blocks(language: &str) -> Vec<&'static str> {
    let begin = format!("\n```{language}\n");
    let blocks: Vec<&str> =
        DOCUMENT.split(&begin).skip(1).filter_map(|rest| Some(rest.split_once("\n```\n")?.0)).collect();
    assert!(!blocks.is_empty(), "docs/cookbook/proxies.md has no {language} block");
    blocks
}

/// Replaces what differs in the tests.
pub(crate) fn adapt(block: &str, replacements: &[(&str, &str)]) -> String {
    let mut text = block.to_owned();
    for (documented, tested) in replacements {
        assert!(text.contains(documented), "{documented:?} is not in {block}");
        text = text.replace(documented, tested);
    }
    text
}
