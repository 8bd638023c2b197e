//! Parts of a panel of bars.

use crate::number::round;
use crate::options::Options;
use crate::scale::Scale;
use crate::svg::{BAR, MARGIN, Svg};

/// Right edge of the bars' names.
const NAMES: f64 = 172.0;

impl Svg {
    /// The legend of colours and of the broken line.
    pub(crate) fn legend(&mut self, options: &Options, baseline: &str) {
        self.y += 32.0;
        let (y, mut x) = (self.y, MARGIN);
        let highlighted = options.highlight.join(", ");
        let hot = Some(("hot", &*highlighted)).filter(|_| !highlighted.is_empty());
        for (class, name) in hot.into_iter().chain([("cold", "others")]) {
            self.rect(class, x, y - 10.0, 20.0);
            self.text(x + 27.0, y, "", name);
            x += 60.0 + 7.0 * name.len() as f64;
        }
        self.line("one", (x + 6.0, y - 13.0), (x + 6.0, y + 4.0));
        self.text(x + 17.0, y, "", baseline);
    }

    /// Writes the name of a row of bars. Returns the bars' class.
    pub(crate) fn name(&mut self, options: &Options, peer: &str) -> &'static str {
        let (class, weight) = if options.is_highlight(peer) { ("hot", "strong") } else { ("cold", "") };
        self.text(NAMES, self.y + 10.0, &format!("end {weight}"), peer);
        class
    }

    /// A bar between two values, with a label beside it.
    pub(crate) fn bar(&mut self, scale: Scale, from: f64, to: f64, class: &str, label: &str) {
        let (start, end) = (scale.at(from), scale.at(to));
        let (left, right) = (start.min(end), start.max(end));
        self.rect(class, left, self.y, (right - left).max(1.5));
        if to > scale.high {
            let x = right - 16.0;
            self.line("gap", (x - 3.0, self.y + BAR + 1.0), (x + 3.0, self.y - 1.0));
        }
        let weight = if class == "hot" { "strong" } else { "" };
        if end < start {
            self.label(left - 6.0, self.y + 10.0, &format!("halo end {weight}"), label);
        } else {
            self.label(right + 6.0, self.y + 10.0, &format!("halo {weight}"), label);
        }
    }

    /// Heading, ticks and grid of a panel, behind its bars.
    pub(crate) fn axis(&mut self, scale: Scale, top: f64, bottom: f64, head: &str, note: &str) {
        self.behind(|svg| {
            svg.text(scale.from, top - 6.0, "head", head);
            svg.text(scale.to, top - 6.0, "small end", note);
            for tick in scale.ticks() {
                let x = scale.at(tick);
                svg.text(x, top + 12.0, "tick middle", &round(tick));
                svg.line("grid", (x, top + 18.0), (x, bottom));
            }
        });
    }

    /// The broken line at 1, in front of the bars.
    pub(crate) fn baseline(&mut self, scale: Scale, top: f64, bottom: f64) {
        self.line("one", (scale.at(1.0), top + 18.0), (scale.at(1.0), bottom));
    }
}
