//! Self-contained HTML pages: no script, nothing from the network, light and dark.

use std::fmt::Write;

/// Drawing area of a chart, in its own units.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 48.0;
const TOP: f64 = 12.0;
const RIGHT: f64 = 14.0;
/// Rows of a table that are shown; how many more there are is said.
const ROWS_MAX: usize = 500;

/// A table that is wider than its page scrolls. Shades at its sides say so, which lie below a cover that
/// scrolls along and leaves the side where nothing more comes bare.
const STYLE: &str = "\
:root{color-scheme:light dark;--bg:#ffffff;--fg:#1a1d21;--dim:#525960;--line:#c9ced4;--mark:#0b5cad;\
--second:#a33b00;--fill:#f3f5f7;--shade:#98a1aa}\
@media(prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e8eaed;--dim:#a9b1ba;--line:#3c434b;\
--mark:#7ab8ff;--second:#ffb07a;--fill:#1d2126;--shade:#59636e}}\
*{box-sizing:border-box}body{margin:0 auto;max-width:64rem;padding:1rem;background:var(--bg);\
color:var(--fg);font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}\
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem}p{margin:.4rem 0}\
.dim{color:var(--dim)}.wide{overflow-x:auto;background:\
linear-gradient(90deg,var(--bg) 40%,transparent) 0 0/3rem 100% no-repeat local,\
linear-gradient(270deg,var(--bg) 40%,transparent) 100% 0/3rem 100% no-repeat local,\
linear-gradient(90deg,var(--shade),transparent) 0 0/1.2rem 100% no-repeat,\
linear-gradient(270deg,var(--shade),transparent) 100% 0/1.2rem 100% no-repeat}table{border-collapse:collapse;width:100%;font-size:.9rem}\
th,td{text-align:left;padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line);\
vertical-align:top}td{min-width:7rem}th{color:var(--dim);font-weight:600;overflow-wrap:normal}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;min-width:0}\
figure{margin:.5rem 0}figcaption{color:var(--dim);font-size:.9rem}\
svg{width:100%;max-width:40rem;height:auto;display:block}svg text{fill:var(--dim);font-size:12px}\
@media(max-width:34rem){svg text{font-size:18px}}\
.axis{stroke:var(--line)}.a{stroke:var(--mark);fill:none;stroke-width:2}\
.b{stroke:var(--second);fill:none;stroke-width:2;stroke-dasharray:5 4}.bar{fill:var(--mark)}\
.dot{fill:var(--mark)}";

/// A page in the making.
#[derive(Debug, Default)]
pub struct Page {
    body: String,
}

/// Text as HTML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // What would turn a line of text around, or isn't text.
            letter if letter.is_control() && letter != '\n' => out.push('\u{fffd}'),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

/// A figure for a table: few digits, no exponent where it can be helped.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "not available".to_owned();
    }
    // No sum of nothing is less than nothing.
    let value = if value == 0.0 { 0.0 } else { value };
    let digits = match value.abs() {
        x if x >= 100.0 || x == 0.0 => 0,
        x if x >= 10.0 => 1,
        x if x >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// A figure for an axis, which has room for six letters.
fn short(value: f64) -> String {
    match value.abs() {
        x if x >= 1e6 => format!("{}M", number(value / 1e6)),
        x if x >= 1e4 => format!("{}k", number(value / 1e3)),
        _ => number(value),
    }
}

impl Page {
    pub fn heading(&mut self, text: &str) -> &mut Self {
        self.tag("h2", "", text)
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        self.tag("p", "", text)
    }

    pub fn note(&mut self, text: &str) -> &mut Self {
        self.tag("p", " class=dim", text)
    }

    fn tag(&mut self, tag: &str, attributes: &str, text: &str) -> &mut Self {
        // Writing to a String does not fail.
        let _ = writeln!(self.body, "<{tag}{attributes}>{}</{tag}>", escaped(text));
        self
    }

    /// A table. Columns whose name begins with `#` hold figures.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) -> &mut Self {
        let class = |column: usize| match head.get(column) {
            Some(name) if name.starts_with('#') => " class=n",
            _ => "",
        };
        self.body.push_str("<div class=wide tabindex=0><table><thead><tr>");
        for (column, name) in head.iter().enumerate() {
            let name = escaped(name.trim_start_matches('#'));
            let _ = write!(self.body, "<th{}>{name}</th>", class(column));
        }
        self.body.push_str("</tr></thead><tbody>\n");
        for row in rows.iter().take(ROWS_MAX) {
            self.body.push_str("<tr>");
            for (column, text) in row.iter().enumerate() {
                let _ = write!(self.body, "<td{}>{}</td>", class(column), escaped(text));
            }
            self.body.push_str("</tr>\n");
        }
        self.body.push_str("</tbody></table></div>\n");
        if rows.len() > ROWS_MAX {
            self.note(&format!("{} more rows are in the JSON.", rows.len() - ROWS_MAX));
        }
        self
    }

    /// One or two lines over the same axes, each with its name.
    pub fn lines(
        &mut self,
        caption: &str,
        axes: (&str, &str),
        lines: &[(&str, &[(f64, f64)])],
    ) -> &mut Self {
        let points = || lines.iter().flat_map(|(_, points)| points.iter().copied());
        let Some(scale) = Scale::of(points()) else {
            return self.note(&format!("{caption}: there is nothing to draw."));
        };
        let mut marks = String::new();
        for ((name, points), class) in lines.iter().zip(["a", "b"]) {
            let path: Vec<String> = points.iter().map(|at| scale.place(*at)).collect();
            let _ = write!(marks, "<polyline class={class} points=\"{}\"/>", path.join(" "));
            if let [only] = points {
                let (x, y) = scale.at(*only);
                let _ = write!(marks, "<circle class=dot cx=\"{x:.1}\" cy=\"{y:.1}\" r=4 />");
            }
            if lines.len() > 1 {
                let which = if class == "a" { "solid" } else { "dashed" };
                let at = if class == "a" { 0.0 } else { 20.0 };
                let _ = write!(
                    marks,
                    "<text x=\"{}\" y=\"{}\" text-anchor=end>{which}: {}</text>",
                    WIDTH - RIGHT,
                    TOP + 12.0 + at,
                    escaped(name)
                );
            }
        }
        self.chart(caption, axes, &scale, &marks)
    }

    /// Counts by bins: (left edge, right edge, count).
    pub fn histogram(
        &mut self,
        caption: &str,
        axes: (&str, &str),
        bins: &[(f64, f64, f64)],
    ) -> &mut Self {
        let corners = bins.iter().flat_map(|(left, right, count)| [(*left, 0.0), (*right, *count)]);
        let Some(scale) = Scale::of(corners) else {
            return self.note(&format!("{caption}: there is nothing to draw."));
        };
        let mut marks = String::new();
        for (left, right, count) in bins.iter().filter(|(_, _, count)| *count > 0.0) {
            let ((x0, y0), (x1, y1)) = (scale.at((*left, 0.0)), scale.at((*right, *count)));
            let (width, height) = ((x1 - x0 - 1.0).max(1.0), (y0 - y1).max(1.0));
            let _ = write!(
                marks,
                "<rect class=bar x=\"{x0:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>",
                y0 - height
            );
        }
        self.chart(caption, axes, &scale, &marks)
    }

    fn chart(
        &mut self,
        caption: &str,
        axes: (&str, &str),
        scale: &Scale,
        marks: &str,
    ) -> &mut Self {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let caption = escaped(caption);
        let _ = write!(
            self.body,
            "<figure><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img aria-label=\"{caption}\">\
             <path class=axis fill=none d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>{marks}"
        );
        for (share, anchor) in [(0.0, "middle"), (0.5, "middle"), (1.0, "end")] {
            let (x, y) = scale.value(share);
            let beyond = if share == 1.0 { RIGHT } else { 0.0 };
            let _ = write!(
                self.body,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor={anchor}>{}</text>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=end>{}</text>",
                LEFT + share * (right - LEFT) + beyond,
                bottom + 20.0,
                short(x),
                LEFT - 6.0,
                bottom - share * (bottom - TOP) + 4.0,
                short(y)
            );
        }
        let _ = writeln!(
            self.body,
            "<text x=\"{}\" y=\"{}\" text-anchor=middle>{}</text></svg>\
             <figcaption>{caption}; upwards: {}.</figcaption></figure>",
            f64::midpoint(LEFT, right),
            HEIGHT - 6.0,
            escaped(axes.0),
            escaped(axes.1)
        );
        self
    }

    /// The whole page.
    pub fn html(&self, title: &str) -> String {
        let title = escaped(title);
        format!(
            "<!doctype html>\n<html lang=en><head><meta charset=utf-8>\
             <meta name=viewport content=\"width=device-width,initial-scale=1\">\
             <meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src \
             'unsafe-inline'; img-src data:\"><link rel=icon href=\"data:,\"><title>{title}</title>\
             <style>{STYLE}</style></head>\n<body><main><h1>{title}</h1>\n{}</main></body></html>\n",
            self.body
        )
    }
}

/// Where values are drawn.
struct Scale {
    x: (f64, f64),
    y: (f64, f64),
}

impl Scale {
    fn of(points: impl Iterator<Item = (f64, f64)>) -> Option<Self> {
        let finite = points.filter(|(x, y)| x.is_finite() && y.is_finite());
        let bounds = finite.fold(None, |bounds: Option<[f64; 4]>, (x, y)| {
            let [x0, x1, y0, y1] = bounds.unwrap_or([x, x, 0.0, y]);
            Some([x0.min(x), x1.max(x), y0.min(y), y1.max(y)])
        })?;
        let apart = |low: f64, high: f64| (low, if high > low { high } else { low + 1.0 });
        Some(Self { x: apart(bounds[0], bounds[1]), y: apart(bounds[2], bounds[3]) })
    }

    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let share = |value: f64, (low, high): (f64, f64)| (value - low) / (high - low);
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        (LEFT + share(x, self.x) * (right - LEFT), bottom - share(y, self.y) * (bottom - TOP))
    }

    fn place(&self, point: (f64, f64)) -> String {
        let (x, y) = self.at(point);
        format!("{x:.1},{y:.1}")
    }

    fn value(&self, share: f64) -> (f64, f64) {
        let value = |(low, high): (f64, f64)| low + share * (high - low);
        (value(self.x), value(self.y))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_wrote_is_text() {
        let mut page = Page::default();
        page.text("<script>alert(1)</script> \u{202e}").table(&["a\"b"], &[vec!["x'&".into()]]);
        let html = page.html("<b>");
        assert!(!html.contains("<script") && !html.contains('\u{202e}') && !html.contains("<b>"));
        assert!(html.contains("a&quot;b") && html.contains("x&#39;&amp;"));
        assert!(!html.contains("http:") && !html.contains("https:"), "nothing from the network");
    }

    #[test]
    fn figures_are_short_and_nothing_has_no_sign() {
        assert_eq!(
            [-0.0, 0.0, 0.25, 12.34, 1234.5].map(number),
            ["0", "0", "0.250", "12.3", "1234"]
        );
        assert_eq!([0.0, 9_999.0, 12_345.0, 1.5e7].map(short), ["0", "9999", "12.3k", "15.0M"]);
    }

    #[test]
    fn charts_have_marks_inside_their_frame() {
        let mut page = Page::default();
        page.histogram("h", ("x", "y"), &[(0.0, 1.0, 3.0), (1.0, 2.0, 0.0)]);
        page.lines("l", ("x", "y"), &[("one", &[(5.0, 5.0)])]);
        page.lines("none", ("x", "y"), &[("one", &[])]);
        let html = page.html("t");
        assert_eq!(html.matches("<rect").count(), 1);
        assert_eq!(html.matches("<circle").count(), 1);
        assert!(html.contains("none: there is nothing to draw"));
        assert!(!html.contains("NaN") && !html.contains("inf,"));
    }
}
