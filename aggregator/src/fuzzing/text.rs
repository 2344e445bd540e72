//! Reads `/metrics` as strictly as the format is meant.

use std::collections::BTreeSet;

/// Panics at what a reader of the text format would not understand, or would take for another series.
pub(super) fn check(text: &str) {
    let (mut families, mut series) = (BTreeSet::new(), BTreeSet::new());
    let mut family = "";
    assert!(text.is_empty() || text.ends_with('\n'), "the last line has no end");
    for line in text.lines() {
        if line.starts_with("# HELP ") {
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            family = kind.split(' ').next().unwrap_or_default();
            assert!(families.insert(family), "{family} is told of twice");
            continue;
        }
        let (name, labels, value) = sample(line);
        assert!(is_name(name), "no name: {line:?}");
        assert!(name.starts_with(family), "{line:?} is not of {family}");
        assert!(value.parse::<f64>().is_ok(), "no number: {line:?}");
        assert!(series.insert((name, labels)), "twice: {line:?}");
    }
}

/// Name, labels by their names, and value.
fn sample(line: &str) -> (&str, Vec<(&str, String)>, &str) {
    let (name, mut rest) = line.split_at(line.find(['{', ' ']).unwrap_or(line.len()));
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap_or_default();
            assert!(is_name(label), "no label: {line:?}");
            let (value, after) = value(after, line);
            labels.push((label, value));
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => {
                    let end = after.strip_prefix('}');
                    assert!(end.is_some(), "no end of labels: {line:?}");
                    rest = end.unwrap_or_default();
                    break;
                }
            }
        }
        labels.sort();
        assert!(labels.is_sorted_by(|a, b| a.0 < b.0), "a label twice: {line:?}");
    }
    let value = rest.strip_prefix(' ');
    assert!(value.is_some(), "no value: {line:?}");
    (name, labels, value.unwrap_or_default())
}

/// The value of a label, and what comes after its closing quote.
fn value<'a>(text: &'a str, line: &str) -> (String, &'a str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => {
                let escaped = characters.next().map(|(_, escaped)| escaped);
                assert!(matches!(escaped, Some('\\' | '"' | 'n')), "a wrong escape: {line:?}");
                value.push('\\');
                value.extend(escaped);
            }
            _ => value.push(character),
        }
    }
    assert!(text.is_empty() && !text.is_empty(), "a label without an end: {line:?}");
    (value, "")
}

fn is_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn what_is_right_passes_and_what_is_wrong_does_not() {
        check("# HELP a b\n# TYPE a counter\na{x=\"1\\n\\\"\\\\\",y=\"\"} 1\na 2e3\n");
        for wrong in [
            "a",
            "a 1",
            "a x\n",
            "1a 1\n",
            "a{x=\"1} 1\n",
            "a{x=\"\\t\"} 1\n",
            "a{x=\"1\",x=\"2\"} 1\n",
            "a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 1\n",
            "# TYPE a counter\n# TYPE a counter\n",
            "# TYPE a counter\nb 1\n",
        ] {
            assert!(std::panic::catch_unwind(|| check(wrong)).is_err(), "{wrong:?}");
        }
    }
}
