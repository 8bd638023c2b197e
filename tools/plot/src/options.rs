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

    /// The picture; none with --table unless given
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

    /// Peer or series that stands out
    #[arg(long)]
    pub(crate) highlight: Option<String>,

    /// Gives a peer, scenario, series or axis another name; --only, --highlight and --baseline
    /// mean the new ones
    #[arg(long, value_name = "OLD=NEW", value_parser = rename)]
    pub(crate) rename: Vec<(String, String)>,

    /// Only these peers or series, in this order [default: all]
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,

    /// The peer that the others are compared to
    #[arg(long, default_value = "rawlimit")]
    pub(crate) baseline: String,

    /// Curves of Y over X, one for each `series`
    #[arg(long, num_args = 2, value_names = ["X", "Y"])]
    pub(crate) curve: Option<Vec<String>>,

    /// Leave smaller X out of the exponents
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    pub(crate) fit_from: f64,

    /// Also write a table into a Markdown file, between <!-- NAME --> and <!-- /NAME -->
    #[arg(long, value_name = "FILE#NAME", value_parser = Section::parse)]
    pub(crate) table: Option<Section>,

    /// The table's columns beside the bars: of each SCENARIO the FIGURE cpu, p50, p99, p999,
    /// deliveries, memory, idle-cpu or lost; lost also of SCENARIO all
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
        self.highlight.as_deref() == Some(name)
    }

    /// The wanted ones of these, in the order wanted; else what stands out first.
    pub(crate) fn choose<'a>(&self, mut names: Vec<&'a str>) -> Vec<&'a str> {
        let place = |name: &str| self.only.iter().position(|wanted| wanted == name);
        names.retain(|name| self.only.is_empty() || place(name).is_some());
        names.sort_by_key(|name| place(name).unwrap_or(usize::from(!self.is_highlight(name))));
        names
    }
}
