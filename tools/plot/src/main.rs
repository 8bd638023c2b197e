//! Draws measurements as an SVG for a README: `cargo run -p plot -- RESULTS... -o FILE.svg`.
//!
//! A result is a line of `key=value` tokens. Bars need `peer` and `scenario`, and `cpu_us` or
//! `cpu_us_per_conn`, `p99_us`, `kb_per_conn`. With `--curve X Y`, lines with `series` and both keys
//! become curves on logarithmic axes. Other lines are skipped. Where there are several results for the
//! same point, such as rounds, the median counts. `--table` also writes the figures into a table in a
//! Markdown file.

mod bars;
mod columns;
mod curves;
mod fit;
mod markdown;
mod number;
mod options;
mod panel;
mod results;
mod scale;
mod series;
mod svg;

use std::error::Error;

use clap::Parser;

use crate::bars::bars;
use crate::columns::table;
use crate::options::Options;
use crate::results::{Line, Results};
use crate::series::Curves;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let mut results = Results::default();
    for file in &options.files {
        let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        results.0.extend(text.lines().map(|line| Line::parse(line, &options)));
    }
    let curves = match options.curve.as_deref() {
        Some([x, y]) => Some(Curves::of(&options, &results, x, y)?),
        _ => None,
    };
    if let Some(file) = &options.output {
        let svg = match &curves {
            Some(curves) => curves.draw(&options),
            None => bars(&options, &results)?,
        };
        std::fs::write(file, svg).map_err(|e| format!("{}: {e}", file.display()))?;
        println!("{}", file.display());
    }
    if let Some(section) = &options.table {
        section.write(&curves.map_or_else(|| table(&options, &results), |curves| curves.table()))?;
    }
    Ok(())
}
