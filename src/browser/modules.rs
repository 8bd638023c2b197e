//! ES modules that are served as one.

/// A file's name and its text.
pub(crate) type Module = (&'static str, &'static str);

macro_rules! modules {
    ($($file:literal),* $(,)?) => { &[$(($file, include_str!($file))),*] };
}
pub(crate) use modules;

/// Joins modules that import each other into one that imports nothing and exports what the last one does. This
/// requires that an `import` is a line of its own, that an `export` starts its line, and that no two modules declare
/// the same name.
pub(crate) fn join(modules: &[Module]) -> String {
    let mut joined = String::new();
    for (n, (_, text)) in modules.iter().enumerate() {
        let is_entry = n + 1 == modules.len();
        for line in text.lines().filter(|line| !line.starts_with("import ")) {
            let line = if is_entry { line } else { line.strip_prefix("export ").unwrap_or(line) };
            joined.push_str(line);
            joined.push('\n');
        }
    }
    joined
}

#[cfg(test)]
pub(crate) mod tests {
    use super::Module;

    pub(crate) fn lines_with<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
        text.lines().filter(|line| line.trim_start().starts_with(start)).collect()
    }

    /// Each module follows those that it imports. Modules of the parent folder (`../`) come first.
    pub(crate) fn assert_in_order(modules: &[Module]) {
        for (n, (file, text)) in modules.iter().enumerate() {
            for import in lines_with(text, "import") {
                let from = import.split_once(" } from './").or_else(|| import.split_once(" } from '../"));
                let from = from.and_then(|(_, rest)| rest.strip_suffix("';"));
                let from = from.unwrap_or_else(|| panic!("{file}: {import}"));
                let is_above = import.contains("from '../");
                assert!(
                    is_above || modules[..n].iter().any(|(earlier, _)| *earlier == from),
                    "{file} imports {from}"
                );
            }
        }
    }

    /// Every module in a folder of `src` is among these.
    pub(crate) fn assert_complete(modules: &[Module], folder: &str) {
        let folder = format!("{}/src/{folder}", env!("CARGO_MANIFEST_DIR"));
        let files = std::fs::read_dir(folder).expect("the folder is there").map(|entry| {
            entry.expect("its entries can be read").file_name().into_string().expect("names are UTF-8")
        });
        let mut files: Vec<String> = files.filter(|name| name.ends_with(".js")).collect();
        files.sort();
        let mut modules: Vec<&str> = modules.iter().map(|(file, _)| *file).collect();
        modules.sort_unstable();
        assert_eq!(files, modules);
    }

    /// No two modules declare the same name, because they are served as one.
    pub(crate) fn assert_unique_names(modules: &[Module]) {
        let mut names = Vec::new();
        for (_, text) in modules {
            for line in text.lines() {
                let line = line.strip_prefix("export ").unwrap_or(line);
                let line = line.strip_prefix("async ").unwrap_or(line);
                let declared = ["const ", "let ", "class ", "function "].iter();
                if let Some(rest) = declared.filter_map(|word| line.strip_prefix(word)).next() {
                    names.extend(rest.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').next());
                }
            }
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(count > 30);
    }
}
