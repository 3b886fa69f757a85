//! The plots: quality against tokens, differences with intervals, numbers of documents, rewards.

use super::curves::Curve;
use super::svg::{Canvas, DrawError, Labels, RULE, TEXT, color, figure, range, short, text, width};
use crate::evaluate::report::{Comparison, PolicyRow, is_fixed};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

const WIDE: u32 = 860;
/// Documents beyond which a histogram has one last bar for all.
const K_MAX: usize = 20;

/// Mean quality (percent) against mean context tokens, one point a contender.
pub(super) fn frontier(
    rows: &[&PolicyRow],
    (metric, label): (&str, &str),
) -> Result<String, DrawError> {
    let all: Vec<(&PolicyRow, f64, f64)> = rows
        .iter()
        .filter_map(|row| Some((*row, row.context_tokens_mean, 100.0 * row.mean(metric)?)))
        .collect();
    let title = format!("{label} (percent) against context tokens");
    figure("plot-frontier", &title, (WIDE, 480), |canvas| {
        let x = range(all.iter().map(|p| p.1), 0.12);
        let y = range(all.iter().map(|p| p.2), 0.18);
        let mut chart = ChartBuilder::on(canvas)
            .margin(12)
            .x_label_area_size(48)
            .y_label_area_size(60)
            .build_cartesian_2d(x.start.max(0.0)..x.end, y)?;
        axes(&mut chart, ("context tokens, mean", label))?;
        let mut fixed: Vec<(f64, f64)> =
            all.iter().filter(|p| is_fixed(&p.0.name)).map(|p| (p.1, p.2)).collect();
        fixed.sort_by(|a, b| a.0.total_cmp(&b.0));
        chart.draw_series(LineSeries::new(fixed, RULE.stroke_width(1)))?;
        let pixels: Vec<(i32, i32)> =
            all.iter().map(|p| chart.backend_coord(&(p.1, p.2))).collect();
        let (right, bottom) = (WIDE as i32 - 4, 480 - 60);
        let mut labels = Labels::new((66, 4, right, bottom), &pixels);
        let mut colored = 0;
        for ((row, ..), at) in all.iter().zip(&pixels) {
            let shade = if is_fixed(&row.name) {
                RULE
            } else {
                colored += 1;
                color(colored - 1)
            };
            canvas.draw(&Circle::new(*at, 5, shade.filled()))?;
            let name = short(&row.name);
            let place = labels.place(*at, &name);
            if (place.1 - at.1).abs() > TEXT {
                // The label had to go elsewhere: a thread leads to it.
                let near = at.0.clamp(place.0, place.0 + width(&name));
                let end = (near, place.1 - (place.1 - at.1).signum() * TEXT / 2);
                canvas.draw(&PathElement::new([*at, end], RULE.mix(0.6)))?;
            }
            canvas.draw(&Text::new(name, place, text(HPos::Left, VPos::Center)))?;
        }
        Ok(())
    })
}

/// Differences from the baseline with their intervals, in points; a hollow mark where the corrected
/// p-value is 0.05 or more.
pub(super) fn forest(
    part: &[&Comparison],
    (metric, label): (&str, &str),
    number: usize,
) -> Result<String, DrawError> {
    let found: Vec<_> =
        part.iter().filter_map(|c| Some((*c, *c.differences.get(metric)?))).collect();
    let (Some((first, _)), rows) = (found.first(), found.len() as u32) else {
        return Ok(String::new());
    };
    let title = format!(
        "{label} less that of {}, points, on {}; filled where p after Holm is below 0.05",
        first.against, first.dataset
    );
    let widest = found.iter().map(|(c, _)| width(&short(&c.name))).max().unwrap_or(0) as u32 + 16;
    let size = (WIDE, 72 + 26 * rows);
    figure(&format!("plot-forest-{number}"), &title, size, |canvas| {
        let ends = found.iter().flat_map(|(_, d)| [d.interval.0, d.interval.1, 0.0]);
        let x = range(ends.map(|end| 100.0 * end), 0.06);
        let mut chart = ChartBuilder::on(canvas)
            .margin(10)
            .x_label_area_size(44)
            .y_label_area_size(widest)
            .build_cartesian_2d(x, 0.0..f64::from(rows))?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .light_line_style(RULE.mix(0.08))
            .bold_line_style(RULE.mix(0.25))
            .axis_style(RULE)
            .x_label_style(("sans-serif", TEXT))
            .x_label_formatter(&|value| format!("{value:+.1}"))
            .x_desc(format!("difference of {label}, points"))
            .axis_desc_style(("sans-serif", TEXT))
            .draw()?;
        let zero = [(0.0, 0.0), (0.0, f64::from(rows))];
        chart.draw_series(LineSeries::new(zero, RULE.stroke_width(2)))?;
        for (at, (c, d)) in found.iter().enumerate() {
            let y = f64::from(rows) - at as f64 - 0.5;
            let (low, high) = (100.0 * d.interval.0, 100.0 * d.interval.1);
            let line = [(low, y), (high, y)];
            chart.draw_series(LineSeries::new(line, color(at).stroke_width(2)))?;
            let middle = chart.backend_coord(&(100.0 * d.mean, y));
            if d.p_holm < 0.05 {
                canvas.draw(&Circle::new(middle, 5, color(at).filled()))?;
            } else {
                canvas.draw(&Circle::new(middle, 5, color(at).stroke_width(2)))?;
            }
            let place = (widest as i32, middle.1);
            canvas.draw(&Text::new(short(&c.name), place, text(HPos::Right, VPos::Center)))?;
        }
        Ok(())
    })
}

/// Share of questions by number of documents.
pub(super) fn histogram(row: &PolicyRow, number: usize) -> Result<String, DrawError> {
    let total = row.k_histogram.iter().sum::<u64>().max(1) as f64;
    let mut shares: Vec<f64> =
        row.k_histogram.iter().map(|count| 100.0 * *count as f64 / total).collect();
    let beyond: f64 = shares.iter().skip(K_MAX).sum();
    if shares.len() > K_MAX + 1 {
        shares.truncate(K_MAX);
        shares.push(beyond);
    }
    let most = shares.iter().copied().fold(1.0, f64::max);
    let last = shares.len().max(6);
    let more =
        if row.k_histogram.len() > K_MAX + 1 { ", the last bar for 20 and more" } else { "" };
    let title = format!("Documents a question: {}{more}", row.name);
    figure(&format!("plot-k-{number}"), &title, (300, 180), |canvas| {
        let mut chart = ChartBuilder::on(canvas)
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(44)
            .build_cartesian_2d(-0.5..last as f64 - 0.5, 0.0..most * 1.05)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(RULE.mix(0.0))
            .bold_line_style(RULE.mix(0.25))
            .axis_style(RULE)
            .x_labels(7)
            .y_labels(4)
            .label_style(("sans-serif", TEXT))
            .x_label_formatter(&|value| format!("{value:.0}"))
            .y_label_formatter(&|value| format!("{value:.0}%"))
            .draw()?;
        chart.draw_series(shares.iter().enumerate().map(|(k, share)| {
            let at = k as f64;
            Rectangle::new([(at - 0.4, 0.0), (at + 0.4, *share)], color(number).filled())
        }))?;
        Ok(())
    })
}

/// Mean reward over the steps of training, one line a run.
pub(super) fn rewards(curves: &[Curve]) -> Result<String, DrawError> {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let lines = curves.len() as u32;
    let size = (WIDE, 360 + 20 * lines);
    figure("plot-rewards", "Mean reward over the steps of training", size, |canvas| {
        let (plot, legend) = canvas.split_vertically(360);
        let mut chart = ChartBuilder::on(&plot)
            .margin(12)
            .x_label_area_size(48)
            .y_label_area_size(60)
            .build_cartesian_2d(
                range(points().map(|p| p.0), 0.03),
                range(points().map(|p| p.1), 0.1),
            )?;
        axes(&mut chart, ("step", "mean reward"))?;
        for (at, curve) in curves.iter().enumerate() {
            let line = curve.points.iter().copied();
            chart.draw_series(LineSeries::new(line, color(at).stroke_width(2)))?;
            let marks = curve.points.iter().filter(|_| curve.points.len() <= 40);
            let mark = |p: &(f64, f64)| Circle::new(*p, 3, color(at).filled());
            chart.draw_series(marks.map(mark))?;
        }
        key(&legend, curves)
    })
}

/// Names beside their colours, one a line.
fn key(legend: &Canvas<'_>, curves: &[Curve]) -> Result<(), DrawError> {
    for (at, curve) in curves.iter().enumerate() {
        let y = 20 * at as i32 + 9;
        legend.draw(&PathElement::new([(66, y), (86, y)], color(at).stroke_width(3)))?;
        let style = text(HPos::Left, VPos::Center);
        legend.draw(&Text::new(curve.name.clone(), (94, y), style))?;
    }
    Ok(())
}

type Plane = plotters::coord::cartesian::Cartesian2d<
    plotters::coord::types::RangedCoordf64,
    plotters::coord::types::RangedCoordf64,
>;

fn axes(
    chart: &mut ChartContext<'_, SVGBackend<'_>, Plane>,
    (x, y): (&str, &str),
) -> Result<(), DrawError> {
    chart
        .configure_mesh()
        .light_line_style(RULE.mix(0.08))
        .bold_line_style(RULE.mix(0.25))
        .axis_style(RULE)
        .label_style(("sans-serif", TEXT))
        .axis_desc_style(("sans-serif", TEXT))
        .x_desc(x)
        .y_desc(y)
        .draw()
}
