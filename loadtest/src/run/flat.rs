//! Whether a series of readings is flat: the line through the middle of it (Theil and Sen), which a few high readings,
//! of a snapshot say, do not bend.

/// Readings are put together into so many.
const POINTS: usize = 120;

/// Fewer than this, and nothing can be said.
const FEWEST: usize = 20;

/// Where the line is at the first and the last moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    pub begin: f64,
    pub end: f64,
}

impl Line {
    /// Through seconds and values, in the order of time; `None` when there are too few.
    pub fn through(readings: &[(f64, f64)]) -> Option<Self> {
        let points: Vec<(f64, f64)> = readings
            .chunks(readings.len().div_ceil(POINTS).max(1))
            .map(|chunk| {
                let column = |of: fn(&(f64, f64)) -> f64| median(chunk.iter().map(of).collect());
                (column(|point| point.0), column(|point| point.1))
            })
            .collect();
        if points.len() < FEWEST {
            return None;
        }
        let mut slopes = Vec::new();
        for (at, a) in points.iter().enumerate() {
            slopes.extend(points[at + 1..].iter().map(|b| (b.1 - a.1) / (b.0 - a.0)));
        }
        let slope = median(slopes);
        let offset = median(points.iter().map(|(x, y)| y - slope * x).collect());
        let value = |point: Option<&(f64, f64)>| point.map(|(x, _)| offset + slope * x);
        Some(Self { begin: value(readings.first())?, end: value(readings.last())? })
    }

    /// By which share of its begin the line rises; negative where it falls.
    pub fn growth(&self) -> f64 {
        (self.end - self.begin) / self.begin
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    f64::midpoint(at(last / 2), at(last.div_ceil(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(of: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        (0..1_000).map(|at| f64::from(at) * 0.5).map(|x| (x, of(x))).collect()
    }

    #[test]
    fn a_rise_is_seen_and_a_few_peaks_are_not() {
        let rising = Line::through(&series(|x| 100.0 + x / 50.0)).unwrap();
        assert!((rising.growth() - 0.1).abs() < 0.001, "{rising:?}");
        let peaks = series(|x| if (x as u64).is_multiple_of(60) { 180.0 } else { 100.0 });
        assert!(Line::through(&peaks).unwrap().growth().abs() < 0.001);
        let falling = Line::through(&series(|x| 100.0 - x / 50.0)).unwrap();
        assert!(falling.growth() < -0.09);
        assert_eq!(Line::through(&series(|x| x)[..9]), None);
    }
}
