//! No counter may fall, and none may vanish, from one reading of `/metrics` to the next.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    hash::{BuildHasherDefault, Hash, Hasher},
    io::BufRead,
};

use anyhow::Result;

use super::{
    Answer,
    text::{Sample, family},
};

/// What the process itself counts starts anew with it.
const OF_THE_PROCESS: [&str; 2] = ["weft_aggregator_", "process_"];

/// Sums of histograms are fractions, added up in any order.
const ROUNDING: f64 = 1e-9;

/// Falls that are told one by one.
const TOLD: usize = 20;

/// What every counter showed last. Series go by the hash of their name and labels: there may be
/// millions of them.
#[derive(Default)]
pub struct Monotone {
    last: HashMap<u64, Last, BuildHasherDefault<DefaultHasher>>,
    readings: u32,
    told: Vec<String>,
    pub falls: u64,
    /// Whether a series may vanish, its edge being idle. When it comes again, it is no lower.
    pub expiring: bool,
    pub vanished: u64,
    pub returned: u64,
}

struct Last {
    value: f64,
    reading: u32,
}

impl Monotone {
    /// Takes in a reading.
    pub fn read(&mut self, mut answer: Answer<'_>) -> Result<()> {
        self.readings += 1;
        let (mut line, mut counts) = (String::new(), false);
        while answer.body.read_line(&mut line)? > 0 {
            if let Some((name, kind)) = family(&line) {
                let own = OF_THE_PROCESS.iter().any(|prefix| name.starts_with(prefix));
                counts = !own && (kind == "counter" || kind == "histogram");
            } else if counts && let Some(sample) = Sample::parse(&line) {
                self.observe(&sample);
            }
            line.clear();
        }
        // What went on from the reading before, and did not from there.
        let gone = |last: &&Last| last.reading + 1 == self.readings;
        let vanished = self.last.values().filter(gone).count();
        if self.expiring {
            self.vanished += vanished as u64;
        } else if vanished > 0 {
            let readings = self.readings;
            self.fall(|| format!("{vanished} series vanished in reading {readings}"));
            self.last.retain(|_, last| last.reading == readings);
        }
        Ok(())
    }

    fn observe(&mut self, sample: &Sample<'_>) {
        let mut hasher = DefaultHasher::new();
        sample.series.hash(&mut hasher);
        let (reading, value) = (self.readings, sample.value);
        let Some(before) = self.last.insert(hasher.finish(), Last { value, reading }) else {
            return;
        };
        self.returned += u64::from(before.reading + 1 < reading);
        if value < before.value - before.value.abs() * ROUNDING {
            self.fall(|| format!("{} fell from {} to {value}", sample.series, before.value));
        }
    }

    fn fall(&mut self, what: impl FnOnce() -> String) {
        self.falls += 1;
        if self.told.len() < TOLD {
            self.told.push(what());
        }
    }

    /// The last reading was cut short: what it did not come to counts as read.
    pub fn forgive(&mut self) {
        let before = self.readings.saturating_sub(1);
        for last in self.last.values_mut().filter(|last| last.reading >= before) {
            last.reading = self.readings;
        }
    }

    pub const fn readings(&self) -> u32 {
        self.readings
    }

    pub fn told(&self) -> String {
        self.told.join("\n  ")
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor, Read};

    use super::*;

    fn read(monotone: &mut Monotone, a: u64, gauge: u64, own: u64) -> u64 {
        let text = format!(
            "# TYPE a_total counter\na_total{{x=\"1\"}} {a}\n# TYPE g gauge\ng {gauge}\n\
             # TYPE weft_aggregator_x counter\nweft_aggregator_x {own}\n"
        );
        let body: Box<dyn Read> = Box::new(Cursor::new(text.into_bytes()));
        monotone.read(Answer { body: BufReader::new(body) }).unwrap();
        monotone.falls
    }

    #[test]
    fn only_counters_of_the_fleet_must_not_fall() {
        let mut monotone = Monotone::default();
        assert_eq!(read(&mut monotone, 5, 5, 5), 0);
        assert_eq!(read(&mut monotone, 5, 4, 4), 0);
        assert_eq!(read(&mut monotone, 4, 4, 4), 1);
        assert!(monotone.told().contains("a_total{x=\"1\"} fell from 5 to 4"));
        let body: Box<dyn Read> = Box::new(Cursor::new(Vec::new()));
        monotone.read(Answer { body: BufReader::new(body) }).unwrap();
        assert!(monotone.told().contains("1 series vanished in reading 4"));
    }

    #[test]
    fn an_edge_that_expired_comes_again_where_it_was() {
        let mut monotone = Monotone { expiring: true, ..Monotone::default() };
        let nothing = |monotone: &mut Monotone| {
            let body: Box<dyn Read> = Box::new(Cursor::new(Vec::new()));
            monotone.read(Answer { body: BufReader::new(body) }).unwrap();
        };
        assert_eq!(read(&mut monotone, 5, 5, 5), 0);
        nothing(&mut monotone);
        nothing(&mut monotone);
        assert_eq!((monotone.vanished, monotone.returned), (1, 0));
        assert_eq!(read(&mut monotone, 5, 5, 5), 0);
        assert_eq!((monotone.vanished, monotone.returned), (1, 1));
        nothing(&mut monotone);
        assert_eq!(read(&mut monotone, 4, 5, 5), 1, "it came again with less");
    }
}
