//! Writes tables into a Markdown file, each between two comments.

use std::path::PathBuf;

/// The place of a table: between `<!-- NAME -->` and `<!-- /NAME -->`.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    file: PathBuf,
    name: String,
}

/// Rows of cells; the first row is the head.
pub(crate) struct Table(pub(crate) Vec<Vec<String>>);

impl Section {
    /// Parses `FILE#NAME`.
    pub(crate) fn parse(text: &str) -> Result<Section, String> {
        let (file, name) = text.split_once('#').ok_or("must be FILE#NAME")?;
        Ok(Section { file: file.into(), name: name.into() })
    }

    /// Replaces the section's content by a table.
    pub(crate) fn write(&self, table: &Table) -> Result<(), String> {
        let explain = |e| format!("{}: {e}", self.file.display());
        let text = std::fs::read_to_string(&self.file).map_err(explain)?;
        let text = replace(&text, &self.name, &table.to_markdown()).ok_or_else(|| {
            format!("{}: no <!-- {1} --> and <!-- /{1} -->", self.file.display(), self.name)
        })?;
        std::fs::write(&self.file, text).map_err(explain)
    }
}

impl Table {
    fn to_markdown(&self) -> String {
        let row = |cells: &Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut rows = self.0.iter().map(row);
        let head = rows.next().unwrap_or_default();
        let columns = self.0.first().map_or(0, Vec::len);
        // Names are left-aligned, numbers right-aligned.
        let rule = format!("|---|{}\n", "---:|".repeat(columns.saturating_sub(1)));
        head + &rule + &rows.collect::<String>()
    }
}

fn replace(text: &str, name: &str, new: &str) -> Option<String> {
    let (open, close) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let (before, rest) = text.split_once(&open)?;
    let (_, after) = rest.split_once(&close)?;
    Some(format!("{before}{open}\n{new}{close}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_the_old_table() {
        let cells = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect();
        let table = Table(vec![cells(&["", "x"]), cells(&["a", "1"])]).to_markdown();
        assert_eq!(table, "|  | x |\n|---|---:|\n| a | 1 |\n");
        let text = "a\n<!-- t -->\nold\n<!-- /t -->\nz\n";
        let once = replace(text, "t", &table).unwrap();
        assert_eq!(once, format!("a\n<!-- t -->\n{table}<!-- /t -->\nz\n"));
        assert_eq!(replace(&once, "t", &table).unwrap(), once);
        assert_eq!(replace(text, "u", &table), None);
    }
}
