//! The flags.

use std::path::PathBuf;

use clap::Parser;
use clap::builder::ArgPredicate;

use crate::columns::Column;
use crate::markdown::Section;

/// Draws files of key=value results as an SVG: bars relative to one peer, or curves.
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// Files of results
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,

    /// Output file of the picture; with --table there is none by default
    #[arg(
        short,
        long,
        default_value_if("table", ArgPredicate::IsPresent, None),
        default_value = "benchmark.svg"
    )]
    pub(crate) output: Option<PathBuf>,

    #[arg(long, default_value = "Benchmark")]
    pub(crate) title: String,

    #[arg(long, default_value = "")]
    pub(crate) subtitle: String,

    /// Peer or series to highlight [repeatable]
    #[arg(long)]
    pub(crate) highlight: Vec<String>,

    /// Rename a peer, scenario, series or axis; --only, --highlight and --baseline use the new
    /// names
    #[arg(long, value_name = "OLD=NEW", value_parser = rename)]
    pub(crate) rename: Vec<(String, String)>,

    /// Only these peers or series, in this order [default: all]
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// Peer to compare the others with
    #[arg(long, default_value = "rawlimit")]
    pub(crate) baseline: String,

    /// Draw curves of Y over X, one per `series`
    #[arg(long, num_args = 2, value_names = ["X", "Y"])]
    pub(crate) curve: Option<Vec<String>>,

    /// Ignore smaller X when fitting exponents
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    pub(crate) fit_from: f64,

    /// Also write a table into a Markdown file, between <!-- NAME --> and <!-- /NAME -->
    #[arg(long, value_name = "FILE#NAME", value_parser = Section::parse)]
    pub(crate) table: Option<Section>,

    /// Columns of the table; FIGURE is cpu, p50, p99, p999, deliveries, memory, idle-cpu or lost. For
    /// lost, SCENARIO may be all
    #[arg(long, value_name = "SCENARIO:FIGURE", value_delimiter = ',', value_parser = Column::parse)]
    pub(crate) columns: Vec<Column>,
}

fn rename(text: &str) -> Result<(String, String), String> {
    let (old, new) = text.split_once('=').ok_or("must be OLD=NEW")?;
    Ok((old.into(), new.into()))
}

impl Options {
    pub(crate) fn new_name<'a>(&'a self, name: &'a str) -> &'a str {
        self.rename.iter().find(|(old, _)| old == name).map_or(name, |(_, new)| new)
    }

    pub(crate) fn is_highlight(&self, name: &str) -> bool {
        self.highlight.iter().any(|highlighted| highlighted == name)
    }

    /// The names chosen by --only in its order or, without it, all with the highlighted ones first.
    pub(crate) fn choose<'a>(&self, mut names: Vec<&'a str>) -> Vec<&'a str> {
        let place = |name: &str| self.only.iter().position(|wanted| wanted == name);
        names.retain(|name| self.only.is_empty() || place(name).is_some());
        names.sort_by_key(|name| place(name).unwrap_or(usize::from(!self.is_highlight(name))));
        names
    }
}
