//! The points of several series, and the power law that each follows.

use crate::fit::Power;
use crate::markdown::Table;
use crate::number::{exponent, round, short};
use crate::options::Options;
use crate::results::{Results, median};

/// Series to draw as curves.
pub(crate) struct Curves<'a> {
    pub(crate) x: &'a str,
    pub(crate) y: &'a str,
    pub(crate) series: Vec<Series<'a>>,
}

pub(crate) struct Series<'a> {
    pub(crate) name: &'a str,
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) power: Option<Power>,
    /// x of the first point that was used for fitting.
    pub(crate) fit_from: f64,
}

impl<'a> Curves<'a> {
    /// The chosen series of `y` over `x`.
    pub(crate) fn of(
        options: &'a Options,
        results: &'a Results,
        x: &'a str,
        y: &'a str,
    ) -> Result<Curves<'a>, String> {
        let names = options.choose(results.values("series")).into_iter();
        let series = names
            .map(|name| Series::of(results, name, (x, y), options.fit_from))
            .filter(|s| !s.points.is_empty());
        let series: Vec<_> = series.collect();
        if series.is_empty() {
            return Err(format!("no line has series=, {x}= and {y}= above 0"));
        }
        Ok(Curves { x: options.new_name(x), y: options.new_name(y), series })
    }

    pub(crate) fn all_points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.series.iter().flat_map(|s| s.points.iter().copied())
    }

    /// A table with a row per series and a column per x.
    pub(crate) fn table(&self) -> Table {
        let mut places: Vec<f64> = self.all_points().map(|(x, _)| x).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        let mut rows = vec![vec![format!("{} at {}", self.y, self.x)]];
        rows[0].extend(places.iter().map(|x| round(*x)));
        rows[0].push("exponent".into());
        for series in &self.series {
            let y = |x: &f64| series.points.iter().find(|point| point.0 == *x).map(|point| short(point.1));
            let mut row = vec![series.name.to_owned()];
            row.extend(places.iter().map(|x| y(x).unwrap_or_else(|| "-".into())));
            row.push(series.power.map_or("-".into(), |power| exponent(power.exponent)));
            rows.push(row);
        }
        Table(rows)
    }
}

impl<'a> Series<'a> {
    fn of(results: &Results, name: &'a str, (x, y): (&str, &str), fit_from: f64) -> Series<'a> {
        let lines = results.0.iter().filter(|line| line.text("series") == name);
        let mut found: Vec<(f64, Vec<f64>)> = vec![];
        for (x, y) in lines.filter_map(|line| Some((line.number(x)?, line.number(y)?))) {
            match found.iter_mut().find(|(at, _)| *at == x) {
                Some((_, values)) => values.push(y),
                None => found.push((x, vec![y])),
            }
        }
        let mut points: Vec<_> =
            found.into_iter().filter_map(|(x, values)| Some((x, median(values)?))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let fitted = &points[points.partition_point(|point| point.0 < fit_from)..];
        let fit_from = fitted.first().map_or(0.0, |point| point.0);
        Series { name, power: Power::fit(fitted), fit_from, points }
    }

    /// y of the last point.
    pub(crate) fn end(&self) -> f64 {
        self.points.last().map_or(0.0, |p| p.1)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::results::Line;

    #[test]
    fn has_a_row_per_series() {
        let options = Options::parse_from(["plot", "file", "--rename", "n=members"]);
        let lines = [
            "series=rooms n=1 us=5 ",
            "series=rooms n=1000 us=4",
            "series=rooms n=1000 us=6",
            "series=big n=1 us=2",
            "series=big n=10 us=20",
            "series=other n=1",
        ];
        let results = Results(lines.iter().map(|line| Line::parse(line, &options)).collect());
        let Table(rows) = Curves::of(&options, &results, "n", "us").unwrap().table();
        assert_eq!(rows[0], ["us at members", "1", "10", "1k", "exponent"]);
        assert_eq!(rows[1], ["rooms", "5.0", "-", "5.0", "0.00"]);
        assert_eq!(rows[2], ["big", "2.0", "20", "-", "1.00"]);

        let from_ten = Options { fit_from: 10.0, ..options };
        let Table(rows) = Curves::of(&from_ten, &results, "n", "us").unwrap().table();
        assert_eq!([rows[1].last(), rows[2].last()].map(Option::unwrap), ["-", "-"]);
    }
}
