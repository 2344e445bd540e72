//! Numbers with names and units, in the order in which they were found.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// One number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub name: String,
    pub value: f64,
    pub unit: String,
}

/// Numbers with names and units.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Figures(Vec<Figure>);

impl Figures {
    /// Adds a number; one that is none, of a run without records say, is left out.
    pub fn add(&mut self, name: &str, value: f64, unit: &str) {
        if value.is_finite() {
            self.0.push(Figure { name: name.to_owned(), value, unit: unit.to_owned() });
        }
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        self.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Figure> {
        self.0.iter()
    }

    /// One line each.
    pub fn table(&self) -> String {
        let width = self.iter().map(|figure| figure.name.chars().count()).max().unwrap_or(0);
        let mut out = String::new();
        for Figure { name, value, unit } in self.iter() {
            // Writing to a string does not fail.
            let _ = writeln!(out, "{name:<width$}  {:>14}  {unit}", digits(*value));
        }
        out.truncate(out.trim_end().len());
        out
    }
}

/// Three significant digits, no fraction from a hundred on, thousands apart.
pub fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 || size == 0.0 => thousands(value.round()),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut out = if value < 0.0 { "-".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_people_want() {
        let numbers = [0.0, 0.1234, 1.234, 12.34, 123.4, 1_234_567.0, -1_000.0];
        let texts = numbers.map(digits);
        assert_eq!(texts, ["0", "0.123", "1.23", "12.3", "123", "1,234,567", "-1,000"]);
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let mut figures = Figures::default();
        figures.add("a", 1.0, "s");
        figures.add("b", f64::NAN, "s");
        assert_eq!(figures.table().trim_end(), format!("a  {:>14}  s", "1.00"));
        assert_eq!((figures.get("a"), figures.get("b")), (Some(1.0), None));
    }
}
