//! Writes SVG.

use std::fmt::Write;

use crate::options::Options;

pub(crate) const WIDTH: f64 = 960.0;
pub(crate) const MARGIN: f64 = 32.0;
/// Height of a bar.
pub(crate) const BAR: f64 = 12.0;

/// Has its own background, to be readable on any page, and follows the reader's colour scheme.
const STYLE: &str = "
  text { font: 12px system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif; fill: #1f2937 }
  .ground { fill: #fff; stroke: #d5dae1 } .title { font-size: 22px; font-weight: 700 } .subtitle { font-size: 14px }
  .head { font-size: 14px; font-weight: 600 } .group { font-size: 13px; font-weight: 600 }
  .subtitle, .small, .tick { fill: #5b6675 } .small, .tick { font-size: 11px }
  .end { text-anchor: end } .middle { text-anchor: middle } .strong, .name { font-weight: 600 }
  .halo { paint-order: stroke; stroke: #fff; stroke-width: 6px; stroke-linejoin: round }
  .grid { stroke: #e6e9ee } .one { stroke: #1f2937; stroke-dasharray: 3 3 } .gap { stroke: #fff; stroke-width: 3 }
  .bar, .dot, .name { fill: currentColor } .line { fill: none; stroke: currentColor; stroke-width: 2 }
  .cold { color: #b4bdc9 } .hot { color: #0f6fde } .c0 { color: #c2570c } .c1 { color: #0a7f5a } .c2 { color: #8b3fc7 }
  .c3 { color: #b0246b } .c4 { color: #7a6a00 } .c5 { color: #47566b }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .ground { fill: #0d1117; stroke: #30363d } .subtitle, .small, .tick { fill: #9aa5b1 }
    .halo { stroke: #0d1117 } .grid { stroke: #21262d } .one { stroke: #e6edf3 } .gap { stroke: #0d1117 } .bar, .dot, .name { fill: currentColor }
    .cold { color: #56616e } .hot { color: #4493f8 } .c0 { color: #f0883e } .c1 { color: #3fb68b } .c2 { color: #bc8cff }
    .c3 { color: #f778ba } .c4 { color: #d2b53b } .c5 { color: #9aa5b1 }
  }
";

/// A picture that grows downwards.
pub(crate) struct Svg {
    body: String,
    /// Drawn in front of everything else.
    labels: String,
    pub(crate) y: f64,
}

impl Svg {
    /// Starts with title and subtitle.
    pub(crate) fn new(options: &Options) -> Svg {
        let mut svg = Svg { body: String::new(), labels: String::new(), y: 46.0 };
        svg.text(MARGIN, svg.y, "title", &options.title);
        if !options.subtitle.is_empty() {
            svg.y += 25.0;
            svg.text(MARGIN, svg.y, "subtitle", &options.subtitle);
        }
        svg
    }

    pub(crate) fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a String can't fail.
        let _ = writeln!(self.body, "  {element}");
    }

    pub(crate) fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        self.add(format_args!(r#"<text x="{x:.1}" y="{y:.1}" class="{class}">{text}</text>"#));
    }

    pub(crate) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.add(format_args!(
            r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
        ));
    }

    pub(crate) fn rect(&mut self, class: &str, x: f64, y: f64, width: f64) {
        self.add(format_args!(
            r#"<rect class="bar {class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{BAR}" rx="2"/>"#
        ));
    }

    /// A text in front of all lines and bars.
    pub(crate) fn label(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let body = std::mem::take(&mut self.body);
        self.text(x, y, class, text);
        self.labels += &std::mem::replace(&mut self.body, body);
    }

    /// Draws behind everything drawn so far.
    pub(crate) fn behind(&mut self, draw: impl FnOnce(&mut Svg)) {
        let front = std::mem::take(&mut self.body);
        draw(self);
        self.body.push_str(&front);
    }

    pub(crate) fn finish(self) -> String {
        let height = self.y + 12.0;
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0}" viewBox="0 0 {WIDTH} {height:.0}">
  <style>{STYLE}</style>
  <rect class="ground" x=".5" y=".5" width="{}" height="{:.0}" rx="10"/>
{}{}</svg>
"#,
            WIDTH - 1.0,
            height - 1.0,
            self.body,
            self.labels
        )
    }
}
