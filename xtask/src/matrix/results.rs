//! What a guest writes to its results' line: sections, each begun by a line `== NAME`.

use anyhow::{Context, Result};
use serde_json::Value;

const MARK: &str = "== ";

/// The sections of a guest's results.
#[derive(Debug)]
pub struct Sections<'a>(Vec<(&'a str, String)>);

impl<'a> Sections<'a> {
    /// Splits a text; what comes before the first section is left out.
    pub fn parse(text: &'a str) -> Self {
        let mut sections: Vec<(&str, String)> = Vec::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix(MARK) {
                sections.push((name.trim(), String::new()));
            } else if let Some((_, content)) = sections.last_mut() {
                content.push_str(line);
                content.push('\n');
            }
        }
        Self(sections)
    }

    /// The last section of this name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(found, _)| *found == name).map(|(_, text)| &**text)
    }

    /// As [`Self::text`]; an error when there is none.
    pub fn required(&self, name: &str) -> Result<&str> {
        self.text(name).with_context(|| format!("the guest told nothing of {name}"))
    }

    /// A section that is one JSON document.
    pub fn json(&self, name: &str) -> Result<Value> {
        let text = self.required(name)?;
        serde_json::from_str(text).with_context(|| format!("{name} is not JSON: {text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_at_marks() {
        let sections = Sections::parse("noise\n== a\n1\n2\n== b\n{\"x\":1}\n== a\n3\n");
        assert_eq!(sections.text("a"), Some("3\n"));
        assert_eq!(sections.json("b").unwrap()["x"], 1);
        assert!(sections.required("c").is_err());
        assert!(sections.json("a").is_ok());
    }
}
