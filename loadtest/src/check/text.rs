//! The text exposition format, line by line, without a copy.

/// A sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a> {
    /// Name and labels, as they stand there.
    pub series: &'a str,
    pub name: &'a str,
    /// What is between the braces.
    pub labels: &'a str,
    pub value: f64,
}

impl<'a> Sample<'a> {
    /// `None` for what is no sample.
    pub fn parse(line: &'a str) -> Option<Self> {
        let line = line.trim_end();
        if line.starts_with('#') {
            return None;
        }
        let (series, value) = line.rsplit_once(' ')?;
        let value = value.parse().ok()?;
        let (name, labels) = match series.split_once('{') {
            Some((name, rest)) => (name, rest.strip_suffix('}')?),
            None => (series, ""),
        };
        Some(Self { series, name, labels, value })
    }

    /// Labels and their values, which are left escaped.
    pub fn labels(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut rest = self.labels;
        std::iter::from_fn(move || {
            let (name, after) = rest.split_once("=\"")?;
            let bytes = after.as_bytes();
            let mut end = 0;
            while *bytes.get(end)? != b'"' {
                end += 1 + usize::from(bytes[end] == b'\\');
            }
            rest = after.get(end + 1..)?.trim_start_matches(',');
            Some((name, after.get(..end)?))
        })
    }
}

/// Name and kind of a family, in the line that says so.
pub fn family(line: &str) -> Option<(&str, &str)> {
    line.trim_end().strip_prefix("# TYPE ")?.split_once(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let sample = Sample::parse("a_b{x=\"1\",y=\"p\\\"q}, \\\\\"} 2.5\n").unwrap();
        assert_eq!((sample.name, sample.value), ("a_b", 2.5));
        assert_eq!(sample.labels().collect::<Vec<_>>(), [("x", "1"), ("y", "p\\\"q}, \\\\")]);
        let sample = Sample::parse("plain 7").unwrap();
        assert_eq!((sample.series, sample.labels, sample.value), ("plain", "", 7.0));
        assert_eq!(Sample::parse("# HELP a b"), None);
        assert_eq!(Sample::parse(""), None);
        assert_eq!(family("# TYPE a_b counter\n"), Some(("a_b", "counter")));
        assert_eq!(family("# HELP a_b counter"), None);
    }
}
