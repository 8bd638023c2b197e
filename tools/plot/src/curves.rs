//! Curves on logarithmic axes, with the power laws that they follow.

use crate::number::{exponent, round};
use crate::options::Options;
use crate::scale::Scale;
use crate::series::{Curves, Series};
use crate::svg::{MARGIN, Svg};

const COLOURS: [&str; 6] = ["c0", "c1", "c2", "c3", "c4", "c5"];

impl Curves<'_> {
    pub(crate) fn draw(&self, options: &Options) -> String {
        let mut svg = Svg::new(options);
        let (top, height) = (svg.y + 52.0, 420.0);
        let across = Scale::log((96.0, 690.0), self.all_points().map(|p| p.0));
        let up = Scale::log((top + height, top), self.all_points().map(|p| p.1));
        svg.grid(across, up, self.x, self.y);

        // Each name is beside the end of its curve, without overlapping another.
        let mut ends: Vec<_> = self.series.iter().enumerate().map(|(n, s)| (up.at(s.end()), n)).collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut free = top;
        for (wanted, n) in ends {
            let place = f64::max(wanted, free);
            free = place + 34.0;
            let s = &self.series[n];
            let class = if options.is_highlight(s.name) { "hot" } else { COLOURS[n % COLOURS.len()] };
            svg.text(706.0, place, &format!("{class} name"), s.name);
            if let Some(power) = s.power {
                let text = format!("∝ {}^{}", self.x, exponent(power.exponent));
                svg.text(706.0, place + 15.0, "small", &text);
            }
            svg.curve(s, class, across, up);
        }
        svg.y = f64::max(top + height + 44.0, free);
        svg.finish()
    }
}

impl Svg {
    /// Both axes.
    fn grid(&mut self, across: Scale, up: Scale, x: &str, y: &str) {
        for tick in across.ticks() {
            let at = across.at(tick);
            self.line("grid", (at, up.from), (at, up.to));
            self.text(at, up.from + 18.0, "tick middle", &round(tick));
        }
        for tick in up.ticks() {
            let at = up.at(tick);
            self.line("grid", (across.from, at), (across.to, at));
            self.text(across.from - 8.0, at + 4.0, "tick end", &round(tick));
        }
        self.text((across.from + across.to) / 2.0, up.from + 40.0, "head middle", x);
        self.text(MARGIN, up.to - 14.0, "head", y);
    }

    /// The points, and the power law that they follow.
    fn curve(&mut self, series: &Series<'_>, class: &str, across: Scale, up: Scale) {
        if let (Some(power), Some(last)) = (series.power, series.points.last()) {
            let place = |x: f64| (across.at(x), up.at(power.at(x)));
            self.line(&format!("line {class}"), place(series.fit_from), place(last.0));
        }
        for (x, y) in &series.points {
            let (x, y) = (across.at(*x), up.at(*y));
            self.add(format_args!(r#"<circle class="dot {class}" cx="{x:.1}" cy="{y:.1}" r="4.5"/>"#));
        }
    }
}
