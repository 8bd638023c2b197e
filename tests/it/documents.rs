//! The documents in Markdown: their links, and the cookbook's table of contents.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the documents are for those who read them elsewhere, for example on docs.rs.
const REPOSITORY: &str = "https://github.com/tower-chat-rooms/tower-chat-rooms";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The documents in a folder.
fn documents_in(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// All links of a document: `[text](target)` and `[label]: target`, outside of code.
fn links(text: &str) -> Vec<&str> {
    let mut links = Vec::new();
    for (n, part) in text.split("\n```").enumerate() {
        // Every other part is code.
        if n % 2 == 0 {
            for start in ["](", "]: "] {
                let targets = part.split(start).skip(1);
                links.extend(targets.filter_map(|rest| rest.split([')', '\n', ' ']).next()));
            }
        }
    }
    links
}

/// The anchors of the headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let headings =
        text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let to_anchor = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(to_anchor).collect()
}

#[test]
fn all_links_have_a_target() {
    let folders = [".", "docs", "docs/cookbook", "examples/cluster", "src/browser", "tests/transcripts"];
    let mut count = 0;
    for document in folders.into_iter().flat_map(documents_in) {
        let text = fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            let (target, anchor) =
                link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
            let path = if let Some(inside) = target.strip_prefix(REPOSITORY) {
                let path = inside
                    .trim_start_matches("/blob/main")
                    .trim_start_matches("/tree/main")
                    .trim_matches('/');
                // The start page shows the README.
                root().join(if path.is_empty() { "README.md" } else { path })
            } else if target.contains(':') {
                continue;
            } else if target.is_empty() {
                document.clone()
            } else {
                document.parent().unwrap().join(target)
            };
            assert!(path.exists(), "{}: there is no {link}", document.display());
            if let Some(anchor) = anchor {
                let has_anchor = anchors(&fs::read_to_string(path).unwrap()).contains(&anchor.to_owned());
                assert!(has_anchor, "{}: there is no heading {link}", document.display());
            }
            count += 1;
        }
    }
    assert!(count > 50, "the test finds only {count} links");
}

#[test]
fn each_recipe_is_in_the_documentation_and_in_the_table_of_contents() {
    let module = fs::read_to_string(root().join("src/cookbook.rs")).unwrap();
    let contents = fs::read_to_string(root().join("docs/cookbook/README.md")).unwrap();
    let recipes = documents_in("docs/cookbook");
    for recipe in &recipes {
        let name = recipe.file_name().unwrap().to_str().unwrap();
        if name == "README.md" {
            continue;
        }
        assert!(module.contains(&format!("docs/cookbook/{name}\"")), "{name} is not in src/cookbook.rs");
        assert!(contents.contains(&format!("]({name})")), "{name} is not in docs/cookbook/README.md");
        // docs.rs has no files beside the page.
        let text = fs::read_to_string(recipe).unwrap();
        let relative = links(&text).into_iter().find(|link| !link.contains(':'));
        assert_eq!(relative, None, "{name} has a link that does not work on docs.rs");
    }
    assert!(recipes.len() > 10);
}

/// The code blocks in a language.
fn code<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let blocks = text.split("\n```").skip(1).step_by(2);
    blocks
        .filter(|block| block.starts_with(language))
        .filter_map(|block| block.split_once('\n'))
        .map(|(_, code)| code)
        .collect()
}

/// Readers copy the dependencies into their `Cargo.toml`.
#[test]
fn each_recipe_names_the_crates_that_its_code_uses() {
    const CRATES: [&str; 11] = [
        "axum",
        "bytes",
        "futures_util",
        "http",
        "jsonwebtoken",
        "serde",
        "serde_json",
        "tokio",
        "tower",
        "tower_chat_rooms",
        "tower_chat_rooms_store",
    ];
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut count = 0;
    for recipe in documents_in("docs/cookbook") {
        let text = fs::read_to_string(&recipe).unwrap();
        let (rust, toml) = (code(&text, "rust").concat(), code(&text, "toml").concat());
        // Without it, the application would also need the crates of the test.
        assert!(!rust.contains("\n\n#[tokio::test"), "{} needs `#[cfg(test)]`", recipe.display());
        for name in CRATES {
            // Ignores `axum::http::` and `my_http::`.
            let uses = rust
                .match_indices(&format!("{name}::"))
                .any(|(at, _)| !rust[..at].ends_with("::") && !rust[..at].ends_with(is_in_name));
            let line = format!("\n{} = ", name.replace('_', "-"));
            count += usize::from(uses);
            assert!(
                !uses || toml.contains(&line) || toml.contains(&line.replace('-', "_")),
                "{} does not say how to depend on {name}",
                recipe.display()
            );
        }
    }
    assert!(count > 25, "the test finds only {count} crates");
}

/// The public features in a `Cargo.toml`.
fn features(manifest: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(manifest)).unwrap();
    let section = text.split("\n[features]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let names = section.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.to_owned());
    names.filter(|name| !name.starts_with(['#', '_']) && name != "default").collect()
}

/// The names in the first column of the table with this head.
fn table(document: &str, head: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(document)).unwrap();
    let table = text.split(head).nth(1).unwrap_or_else(|| panic!("{document} has no {head}"));
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.split('`').nth(1).unwrap().to_owned()).collect()
}

#[test]
fn all_features_are_documented_and_no_others() {
    for (manifest, document, head) in [
        ("Cargo.toml", "README.md", "| feature | adds |"),
        ("examples/standalone/Cargo.toml", "docs/deployment.md", "| feature | adds | flags |"),
    ] {
        let (mut features, mut documented) = (features(manifest), table(document, head));
        features.sort();
        documented.sort();
        assert_eq!(documented, features, "{document} and {manifest}");
        assert!(features.len() > 3, "the test finds only {features:?}");
    }
}
