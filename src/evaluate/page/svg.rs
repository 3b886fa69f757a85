//! A plot as a figure that stands in a page: colours, texts, places of labels, accessible titles.
//!
//! Lines are of middle tones that can be seen on light and dark; texts take the page's colour.

use super::escape;
use plotters::coord::Shift;
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::{DrawingArea, IntoDrawingArea as _, RGBColor, SVGBackend, TextStyle};
use plotters::style::IntoFont as _;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// What goes wrong in a plot.
pub(super) type DrawError = DrawingAreaErrorKind<std::io::Error>;
/// What is drawn on; pixels.
pub(super) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Axes, grids and rules.
pub(super) const RULE: RGBColor = RGBColor(0x80, 0x80, 0x80);
const PALETTE: [RGBColor; 8] = [
    RGBColor(0x2f, 0x7f, 0xc8),
    RGBColor(0xd9, 0x80, 0x1e),
    RGBColor(0x23, 0x99, 0x68),
    RGBColor(0xd1, 0x49, 0x5b),
    RGBColor(0x92, 0x68, 0xc4),
    RGBColor(0x12, 0x96, 0xa8),
    RGBColor(0xa8, 0x78, 0x46),
    RGBColor(0xc8, 0x5a, 0xa8),
];

/// Size of plain text, in the library's units; about four fifths of it are pixels.
pub(super) const TEXT: i32 = 16;
/// Longest text in a plot; the tables hold the whole.
const TEXT_MAX: usize = 36;

/// The colour of the n-th thing.
pub(super) fn color(n: usize) -> RGBColor {
    PALETTE[n % PALETTE.len()]
}

/// Plain text, placed by these sides of it.
pub(super) fn text<'a>(horizontal: HPos, vertical: VPos) -> TextStyle<'a> {
    let font = ("sans-serif", TEXT).into_font();
    font.color(&RULE).pos(Pos::new(horizontal, vertical))
}

/// A name short enough to stand in a plot.
pub(super) fn short(name: &str) -> String {
    if name.chars().count() <= TEXT_MAX {
        return name.to_owned();
    }
    name.chars().take(TEXT_MAX - 1).chain(['…']).collect()
}

/// Pixels that a text is wide, about.
pub(super) fn width(text: &str) -> i32 {
    (text.chars().count() as f64 * 0.47 * f64::from(TEXT)).ceil() as i32
}

/// Draws a figure with a title that is read aloud, and a caption that is seen.
pub(super) fn figure(
    id: &str,
    title: &str,
    size: (u32, u32),
    draw: impl FnOnce(&Canvas<'_>) -> Result<(), DrawError>,
) -> Result<String, DrawError> {
    let mut image = String::new();
    {
        let canvas = SVGBackend::with_string(&mut image, size).into_drawing_area();
        draw(&canvas)?;
        canvas.present()?;
    }
    let (id, title) = (escape(id), escape(title));
    let opening = format!("<svg role=\"img\" aria-labelledby=\"{id}\" ");
    let image = image.replacen("<svg ", &opening, 1);
    let image = match image.split_once(">\n") {
        Some((head, rest)) => format!("{head}>\n<title id=\"{id}\">{title}</title>\n{rest}"),
        None => image,
    };
    Ok(format!("<figure>\n{image}<figcaption>{title}</figcaption>\n</figure>\n"))
}

/// A range that holds all values with some room; about 0 where there are none.
pub(super) fn range(values: impl Iterator<Item = f64>, room: f64) -> std::ops::Range<f64> {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.filter(|value| value.is_finite()) {
        (low, high) = (low.min(value), high.max(value));
    }
    if low > high {
        return -1.0..1.0;
    }
    let span = if high - low > 1e-9 { high - low } else { low.abs().max(1.0) };
    low - room * span..high + room * span
}

/// A rectangle of pixels: left, top, right, bottom.
pub(super) type Area = (i32, i32, i32, i32);

/// Finds labels a place beside their points, where nothing else stands.
pub(super) struct Labels {
    within: Area,
    taken: Vec<Area>,
}

impl Labels {
    /// Labels of these points, inside this area.
    pub(super) fn new(within: Area, points: &[(i32, i32)]) -> Self {
        let taken = points.iter().map(|(x, y)| (x - 6, y - 6, x + 6, y + 6)).collect();
        Self { within, taken }
    }

    /// Where the left middle of the label of a point goes: the free place nearest to it.
    pub(super) fn place(&mut self, (x, y): (i32, i32), label: &str) -> (i32, i32) {
        let (wide, high) = (width(label), TEXT);
        let mut places = Vec::new();
        for ring in 0..12 {
            for up in [-1, 1] {
                let dy = up * ring * (high - 2);
                let aside = if ring == 0 { 9 } else { 4 };
                places.push((x + aside, y + dy));
                places.push((x - aside - wide, y + dy));
                places.push((x - wide / 2, y + dy));
            }
        }
        let area =
            |(left, middle): (i32, i32)| (left, middle - high / 2, left + wide, middle + high / 2);
        let is_free = |place: &(i32, i32)| {
            let (left, top, right, bottom) = area(*place);
            let (l, t, r, b) = self.within;
            let is_inside = left >= l && top >= t && right <= r && bottom <= b;
            let hits = |(l, t, r, b): &Area| left < *r && right > *l && top < *b && bottom > *t;
            is_inside && !self.taken.iter().any(hits)
        };
        let place = places.iter().copied().find(is_free).unwrap_or((x + 9, y));
        self.taken.push(area(place));
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_points_on_one_spot_do_not_overlap() {
        let points = [(200, 100); 6];
        let mut labels = Labels::new((0, 0, 600, 300), &points);
        let placed: Vec<(i32, i32)> = points.map(|at| labels.place(at, "a long name")).to_vec();
        for (n, a) in placed.iter().enumerate() {
            for b in &placed[n + 1..] {
                let apart = (a.0 - b.0).abs() >= width("a long name") || (a.1 - b.1).abs() >= 12;
                assert!(apart, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn ranges_hold_their_values_and_never_collapse() {
        assert_eq!(range([1.0, 3.0].into_iter(), 0.5), 0.0..4.0);
        assert_eq!(range([2.0].into_iter(), 0.5), 1.0..3.0);
        assert_eq!(range([f64::NAN].into_iter(), 0.5), -1.0..1.0);
    }

    #[test]
    fn long_names_are_cut_in_plots() {
        assert_eq!(short("name"), "name");
        assert_eq!(short(&"é".repeat(50)).chars().count(), TEXT_MAX);
    }
}
