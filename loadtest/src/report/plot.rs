//! A plot over time as SVG: axes, a grid, a few lines.

use std::fmt::Write as _;

/// Size of the picture, and the room around the plot for what is written.
const SIZE: (f64, f64) = (800.0, 300.0);
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 36.0;

/// Good to tell apart on white, for colour-blind eyes too.
const COLOURS: [&str; 3] = ["#0072b2", "#d55e00", "#009e73"];

/// A line of a plot.
pub struct Line<'a> {
    pub name: &'a str,
    /// Seconds and values, in the order of time.
    pub points: Vec<(f64, f64)>,
}

/// Draws lines over seconds.
pub fn svg(title: &str, lines: &[Line<'_>]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let end = points().map(|(x, _)| *x).fold(1.0, f64::max);
    let (step, top) = scale(points().map(|(_, y)| *y).fold(0.0, f64::max));
    let (width, height) = SIZE;
    let x = |seconds: f64| LEFT + seconds / end * (width - LEFT - RIGHT);
    let y = |value: f64| height - BOTTOM - value / top * (height - TOP - BOTTOM);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
        escape(title)
    );
    let mut value = 0.0;
    // Writing to a string does not fail.
    while value <= top * 1.001 {
        let at = y(value);
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">{}</text>",
            width - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            number(value)
        );
        value += step;
    }
    let (step, _) = scale(end);
    let mut seconds = 0.0;
    while seconds <= end {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{} s</text>",
            x(seconds),
            height - BOTTOM + 18.0,
            number(seconds)
        );
        seconds += step;
    }
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let _ = write!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\""
        );
        for (seconds, value) in &line.points {
            let _ = write!(out, "{:.1},{:.1} ", x(*seconds), y(*value));
        }
        out.push_str("\"/>\n");
    }
    if lines.len() > 1 {
        for (at, (line, colour)) in lines.iter().zip(COLOURS.iter().cycle()).enumerate() {
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"20\" text-anchor=\"end\" fill=\"{colour}\">{}</text>",
                width - RIGHT - 60.0 * at as f64,
                escape(line.name)
            );
        }
    }
    out.push_str("</svg>\n");
    out
}

/// A round step that divides an axis into about five, and the end of the axis.
fn scale(most: f64) -> (f64, f64) {
    if !most.is_finite() || most <= 0.0 {
        return (1.0, 1.0);
    }
    let rough = most / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let step = step.into_iter().find(|step| *step >= rough).unwrap_or(rough);
    (step, step * (most / step).ceil())
}

fn number(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{} M", trim(value / 1e6)),
        value if value >= 1e4 => format!("{} k", trim(value / 1e3)),
        value => trim(value),
    }
}

fn trim(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!(scale(4.2), (1.0, 5.0));
        assert_eq!(scale(100.0), (20.0, 100.0));
        assert_eq!(scale(0.0), (1.0, 1.0));
        assert_eq!(scale(f64::NAN), (1.0, 1.0));
        let texts = [0.0, 0.25, 9_999.0, 20_000.0, 1_500_000.0].map(number);
        assert_eq!(texts, ["0", "0.25", "9999", "20 k", "1.5 M"]);
    }

    #[test]
    fn every_point_lies_within_the_picture() {
        let points = (0..50).map(|at| (f64::from(at), f64::from(at * at))).collect();
        let lines = [Line { name: "a<b", points }, Line { name: "none", points: Vec::new() }];
        let svg = svg("x & y", &lines);
        assert!(svg.contains("x &amp; y") && svg.contains("a&lt;b"));
        let (_, rest) = svg.split_once("points=\"").unwrap();
        let (points, _) = rest.split_once('"').unwrap();
        assert_eq!(points.split_whitespace().count(), 50);
        for point in points.split_whitespace() {
            let (x, y) = point.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((LEFT..=SIZE.0 - RIGHT).contains(&x) && (TOP..=SIZE.1 - BOTTOM).contains(&y));
        }
    }
}
