//! What a reader likes best of what there is.

use crate::exposition::Format;

/// The format that a reader likes better: text, unless it says otherwise.
pub(super) fn format<'a>(accepted: impl Iterator<Item = &'a str>) -> Format {
    let (mut text, mut native) = (None, None);
    for (kind, parameters) in ranges(accepted) {
        let (mut proto, mut encoding) = ("", "");
        for (name, value) in parameters.clone() {
            match name {
                "proto" => proto = value,
                "encoding" => encoding = value,
                _ => {}
            }
        }
        match kind {
            "text/plain" => text = more(text, parameters),
            "application/vnd.google.protobuf"
                if proto == "io.prometheus.client.MetricFamily" && encoding == "delimited" =>
            {
                native = more(native, parameters);
            }
            _ => {}
        }
    }
    match native {
        Some(native) if native > 0.0 && text.is_none_or(|text| native > text) => Format::Native,
        _ => Format::Text,
    }
}

/// Whether a reader takes what is packed by gzip, and likes it no less than what is not.
pub(super) fn gzip<'a>(accepted: impl Iterator<Item = &'a str>) -> bool {
    let (mut gzip, mut plain, mut other) = (None, None, None);
    for (coding, parameters) in ranges(accepted) {
        match coding.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => gzip = more(gzip, parameters),
            "identity" => plain = more(plain, parameters),
            "*" => other = more(other, parameters),
            _ => {}
        }
    }
    gzip.or(other).is_some_and(|gzip| gzip > 0.0 && plain.is_none_or(|plain| gzip >= plain))
}

/// What a header lists, with its parameters.
fn ranges<'a>(
    values: impl Iterator<Item = &'a str>,
) -> impl Iterator<Item = (&'a str, impl Iterator<Item = (&'a str, &'a str)> + Clone)> {
    values.flat_map(|value| value.split(',')).map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        (kind, parts.filter_map(|part| part.split_once('=')))
    })
}

/// How much something is liked that is listed once more.
fn more<'a>(
    known: Option<f64>,
    parameters: impl Iterator<Item = (&'a str, &'a str)>,
) -> Option<f64> {
    let mut quality = 1.0_f64;
    for (_, value) in parameters.filter(|(name, _)| *name == "q") {
        quality = value.parse().unwrap_or(0.0);
    }
    Some(known.map_or(quality, |known| known.max(quality)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTO: &str = "application/vnd.google.protobuf;\
                         proto=io.prometheus.client.MetricFamily;encoding=delimited";

    #[test]
    fn what_a_reader_likes_better_is_what_it_gets() {
        let of = |accepted: &[&str]| format(accepted.iter().copied());
        assert_eq!(of(&[]), Format::Text);
        assert_eq!(of(&["*/*"]), Format::Text);
        assert_eq!(of(&[PROTO]), Format::Native);
        // As Prometheus asks with native histograms, and as it does without.
        let with = format!("{PROTO};q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2");
        let without = format!("text/plain;version=1.0.0;q=0.5,{PROTO};q=0.4,*/*;q=0.2");
        assert_eq!(of(&[&with]), Format::Native);
        assert_eq!(of(&["text/plain;q=0.3", &format!("{PROTO};q=0.6")]), Format::Native);
        assert_eq!(of(&[&without]), Format::Text);
        assert_eq!(of(&[&format!("{PROTO};q=0")]), Format::Text);
        assert_eq!(of(&[&PROTO.replace("delimited", "text")]), Format::Text);
        assert_eq!(of(&[&PROTO.replace("MetricFamily", "Other")]), Format::Text);
    }

    #[test]
    fn what_is_packed_is_for_those_who_take_it() {
        for (accepted, packed) in [
            (&[][..], false),
            (&["gzip"], true),
            (&["deflate, GZip;q=0.1"], true),
            (&["deflate", "*;q=0.5"], true),
            (&["gzip;q=0"], false),
            (&["gzip;q=0, *"], false),
            (&["gzip;q=x"], false),
            (&["identity"], false),
            (&["identity, gzip;q=0.5"], false),
            (&["identity;q=0.5", "gzip"], true),
            (&["br"], false),
        ] {
            assert_eq!(gzip(accepted.iter().copied()), packed, "{accepted:?}");
        }
    }
}
