//! Line charts as SVG, each with a table of its values.

use std::fmt::Write;
use std::time::Duration;

use super::compare::number;
use super::terminal::clock;

const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 30.0;

/// The limit of axes; no measurement is larger.
const VALUE_MAX: f64 = 1e21;

/// Steps of the time axis, in seconds.
const TIME_STEPS: [f64; 16] = [
    1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 86_400.0,
];
const TIME_TICKS_MAX: f64 = 8.0;

/// The width of a character in the name of a phase, a generous estimate.
const CHARACTER_WIDTH: f64 = 7.5;
const WIDE_CHARACTER_WIDTH: f64 = 13.0;
/// The minimum distance between the lines of two phases.
const PHASE_WIDTH_LEAST: f64 = 3.0;

/// A phase of a run, in seconds.
pub(super) struct Phase<'a> {
    pub(super) name: &'a str,
    pub(super) begin: f64,
    pub(super) end: f64,
}

/// Values over the time of a run.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    /// The unit of the vertical axis.
    pub(super) unit: &'a str,
    /// Length of the run in seconds.
    pub(super) seconds: f64,
    /// The phases in order.
    pub(super) phases: &'a [Phase<'a>],
    /// The times of the values, in seconds.
    pub(super) at: &'a [f64],
    /// The lines by name, each with one value per time.
    pub(super) lines: Vec<(&'a str, Vec<Option<f64>>)>,
}

impl Chart<'_> {
    /// Returns an HTML figure; `None` without values.
    pub(super) fn to_html(&self, id: &str) -> Option<String> {
        if self.lines.iter().flat_map(|(_, values)| values.iter().flatten()).any(|value| value.abs() > VALUE_MAX) {
            return None;
        }
        let values = || self.lines.iter().flat_map(|(_, values)| values.iter().flatten().copied());
        values().next()?;
        let highest = values().fold(0.0, f64::max);
        let step = step_of_values(highest / 5.0);
        let top = (highest / step).ceil().max(1.0) * step;
        let x = |seconds: f64| LEFT + seconds / self.seconds * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
        let (title, unit) = (escape(self.title), escape(self.unit));

        let mut html = format!("<figure class=\"chart\"><figcaption>{title}</figcaption>\n");
        if self.lines.len() > 1 {
            html.push_str("<p class=\"legend\">");
            for (i, (name, _)) in self.lines.iter().enumerate() {
                html.push_str(&format!(
                    "<span><svg width=\"26\" height=\"10\" aria-hidden=\"true\">\
                     <path class=\"line l{i}\" d=\"M1 5H25\"/>\
                     </svg>{}</span> ",
                    escape(name)
                ));
            }
            html.push_str("</p>\n");
        }
        let xs: Vec<String> = self.at.iter().map(|at| format!("{:.1}", x(*at))).collect();
        write_to(
            &mut html,
            format_args!(
                "<div class=\"plot\"><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
                 aria-labelledby=\"{id}-t {id}-d\" \
             data-x=\"{}\"><title id=\"{id}-t\">{title}</title><desc id=\"{id}-d\">{}</desc>\n",
                xs.join(" "),
                escape(&self.description()),
            ),
        );

        let mut value = 0.0;
        while value <= top + step / 2.0 {
            let at = y(value);
            write_to(
                &mut html,
                format_args!(
                    "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{}\"/><text class=\"tick\" x=\"{}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{}</text>\n",
                    WIDTH - RIGHT,
                    LEFT - 8.0,
                    at + 4.0,
                    escape(&label(value)),
                ),
            );
            value += step;
        }
        write_to(
            &mut html,
            format_args!("<text class=\"unit\" x=\"{}\" y=\"11\" text-anchor=\"end\">{unit}</text>\n", LEFT - 8.0),
        );
        let step = TIME_STEPS.into_iter().find(|step| self.seconds / step <= TIME_TICKS_MAX);
        let step = step.unwrap_or_else(|| (self.seconds / TIME_TICKS_MAX / 86_400.0).ceil() * 86_400.0);
        let mut seconds = 0.0;
        while seconds <= self.seconds {
            // Centred text at the edge would be clipped.
            let anchor = if x(seconds) + 2.0 * RIGHT > WIDTH { "end" } else { "middle" };
            write_to(
                &mut html,
                format_args!(
                    "<path class=\"grid\" d=\"M{0:.1} {1}v4\"/><text class=\"tick\" x=\"{0:.1}\" y=\"{2}\" \
                 text-anchor=\"{anchor}\">{3}</text>\n",
                    x(seconds),
                    HEIGHT - BOTTOM,
                    HEIGHT - BOTTOM + 18.0,
                    clock(Duration::try_from_secs_f64(seconds).unwrap_or_default()),
                ),
            );
            seconds += step;
        }
        self.mark_phases(&mut html, x);
        for (i, (_, values)) in self.lines.iter().enumerate() {
            for run in runs(values) {
                let points: Vec<String> =
                    run.map(|at| format!("{} {:.1}", xs[at], y(values[at].unwrap_or(0.0)))).collect();
                match &points[..] {
                    [point] => {
                        let (x, y) = point.split_once(' ').unwrap_or_default();
                        write_to(
                            &mut html,
                            format_args!("<circle class=\"dot l{i}\" cx=\"{x}\" cy=\"{y}\" r=\"3.5\"/>\n"),
                        );
                    }
                    _ => write_to(&mut html, format_args!("<path class=\"line l{i}\" d=\"M{}\"/>\n", points.join("L"))),
                }
            }
        }
        write_to(
            &mut html,
            format_args!(
                "<path class=\"cursor\" d=\"M0 {TOP}V{}\" visibility=\"hidden\"/></svg>\
                 <output hidden></output></div>\n",
                HEIGHT - BOTTOM
            ),
        );
        html.push_str(&self.table());
        html.push_str("</figure>\n");
        Some(html)
    }

    /// Marks the start of each phase and the end of the last, with the names where they fit.
    fn mark_phases(&self, html: &mut String, x: impl Fn(f64) -> f64) {
        let phases = || self.phases.iter().filter(|phase| phase.begin < phase.end && phase.begin < self.seconds);
        let mut last = LEFT;
        for at in phases().map(|phase| phase.begin).chain(phases().next_back().map(|phase| phase.end)) {
            let at = x(at);
            if at >= last + PHASE_WIDTH_LEAST && at < WIDTH - RIGHT {
                write_to(html, format_args!("<path class=\"phase\" d=\"M{at:.1} 4V{}\"/>\n", HEIGHT - BOTTOM));
                last = at;
            }
        }
        for phase in phases() {
            let begin = x(phase.begin) + 5.0;
            let room = x(phase.end.min(self.seconds)) - begin;
            let width = |c: char| if c.is_ascii() { CHARACTER_WIDTH } else { WIDE_CHARACTER_WIDTH };
            if phase.name.chars().map(width).sum::<f64>() <= room {
                // Text that is still too wide is clipped.
                write_to(
                    html,
                    format_args!(
                        "<svg x=\"{begin:.1}\" y=\"0\" width=\"{room:.1}\" height=\"{TOP}\">\
                         <text class=\"phase-name\" y=\"15\">{}</text></svg>\n",
                        escape(phase.name)
                    ),
                );
            }
        }
    }

    /// Returns the name of the phase at this time.
    fn phase_at(&self, at: f64) -> Option<&str> {
        self.phases.iter().find(|phase| phase.begin <= at && at < phase.end).map(|phase| phase.name)
    }

    /// Describes the range of each line for screen readers.
    fn description(&self) -> String {
        let range = |(name, values): &(&str, Vec<Option<f64>>)| {
            let values = || values.iter().flatten().copied();
            let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
            (low <= high).then(|| format!("{name} from {} to {} {}", number(low), number(high), self.unit))
        };
        let ranges: Vec<String> = self.lines.iter().filter_map(range).collect();
        format!("Over {}: {}. The values are in the table below.", clock_of(self.seconds), ranges.join("; "))
    }

    fn table(&self) -> String {
        let mut html =
            String::from("<details><summary>Values</summary><div class=\"scroll\"><table><thead><tr><th>at</th>");
        let has_phases = self.at.iter().any(|at| self.phase_at(*at).is_some());
        if has_phases {
            html.push_str("<th>phase</th>");
        }
        for (name, _) in &self.lines {
            write_to(&mut html, format_args!("<th>{} <small>{}</small></th>", escape(name), escape(self.unit)));
        }
        html.push_str("</tr></thead><tbody>\n");
        for (i, at) in self.at.iter().enumerate() {
            write_to(&mut html, format_args!("<tr><th>{}</th>", clock_of(*at)));
            if has_phases {
                let name = self.phase_at(*at).map_or_else(|| "–".to_owned(), escape);
                write_to(&mut html, format_args!("<td>{name}</td>"));
            }
            for (_, values) in &self.lines {
                let value = values[i].map_or_else(|| "–".to_owned(), number);
                write_to(&mut html, format_args!("<td>{value}</td>"));
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody></table></div></details>\n");
        html
    }
}

fn clock_of(seconds: f64) -> String {
    clock(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

fn write_to(html: &mut String, text: std::fmt::Arguments<'_>) {
    html.write_fmt(text).expect("a string takes everything");
}

/// Returns the runs of consecutive values without gaps.
fn runs(values: &[Option<f64>]) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let begin = next + values[next..].iter().position(Option::is_some)?;
        let end = values[begin..].iter().position(Option::is_none).map_or(values.len(), |length| begin + length);
        next = end;
        Some(begin..end)
    })
}

/// Returns 1, 2 or 5 times a power of ten, at least `least`.
fn step_of_values(least: f64) -> f64 {
    if !least.is_normal() {
        return 1.0;
    }
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|digit| digit * power).find(|step| *step >= least).unwrap_or(10.0 * power)
}

/// Formats a short label for an axis.
fn label(value: f64) -> String {
    let short = |value: f64| {
        let text = format!("{value:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match value.abs() {
        0.0..1e4 => short(value),
        1e4..1e6 => format!("{}k", short(value / 1e3)),
        1e6..1e9 => format!("{}M", short(value / 1e6)),
        _ => format!("{value:.1e}"),
    }
}

/// Escapes text for HTML, including attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\0' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_steps_and_short_labels() {
        for (least, expected) in [(0.0, 1.0), (0.3, 0.5), (1.0, 1.0), (1.1, 2.0), (2_100.0, 5_000.0), (60.0, 100.0)] {
            assert!((step_of_values(least) / expected - 1.0).abs() < 1e-9, "{least}");
        }
        for (value, expected) in [(0.0, "0"), (0.25, "0.25"), (2_500.0, "2500"), (12_500.0, "12.5k"), (3e6, "3M")] {
            assert_eq!(label(value), expected);
        }
    }

    #[test]
    fn names_of_phases_stand_where_they_fit() {
        let phase = |name, begin, end| Phase { name, begin, end };
        let phases = [
            phase("none", 0.0, 0.0),
            phase("<a>", 0.0, 10.0),
            phase("too long for a second", 10.0, 11.0),
            phase("hold", 11.0, 50.0),
            phase("b", 50.0, 50.1),
            phase("c", 50.1, 60.0),
            phase("after it was broken off", 80.0, 900.0),
        ];
        let lines = vec![("x", vec![Some(1.0), None])];
        let chart = Chart { title: "t", unit: "u", seconds: 70.0, phases: &phases, at: &[5.0, 65.0], lines };
        let html = chart.to_html("id").expect("it has a value");
        let name = |part: &str| part.split_once("</text>").expect("it is closed").0.to_owned();
        let names: Vec<String> = html.split("class=\"phase-name\" y=\"15\">").skip(1).map(name).collect();
        assert_eq!(names, ["&lt;a&gt;", "hold", "c"]);
        assert_eq!(html.matches("class=\"phase\"").count(), 4, "10, 11, 50, 60: {html}");
        assert!(
            html.contains("<th>00:05</th><td>&lt;a&gt;</td>") && html.contains("<th>01:05</th><td>–</td>"),
            "{html}"
        );
    }

    #[test]
    fn gaps_part_a_line() {
        let found: Vec<_> = runs(&[None, Some(1.0), Some(2.0), None, None, Some(3.0)]).collect();
        assert_eq!(found, [1..3, 5..6]);
        assert_eq!(runs(&[None]).count() + runs(&[]).count(), 0);
    }
}
