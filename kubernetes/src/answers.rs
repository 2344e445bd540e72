//! What the server answers: pages of a list and lines of a watch, in its JSON.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

/// Bytes of one page of a list that are read: five hundred objects, each with a long history of who has managed it.
pub(crate) const PAGE_BYTES: usize = 32 << 20;

/// The longest line of a watch that is read, in bytes: no object is stored that is longer than 1.5 MiB, and JSON says it
/// with more words.
pub(crate) const LINE_BYTES: usize = 4 << 20;

/// The code for what is not kept any more.
pub(crate) const GONE: u16 = 410;

#[derive(Deserialize)]
struct List<'a> {
    metadata: Metadata,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: Option<String>,
    r#continue: Option<String>,
}

#[derive(Deserialize)]
struct Line<'a> {
    r#type: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// What every object has.
#[derive(Deserialize)]
struct Object {
    metadata: Option<Metadata>,
}

/// How a server says that it will not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Status {
    #[serde(default)]
    pub(crate) code: u16,
    #[serde(default)]
    pub(crate) message: String,
}

/// A page of a list.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// Those that are not as they should be.
    pub(crate) unreadable: u64,
    /// What is asked for next; `None` when this is the last one.
    pub(crate) next: Option<String>,
    /// From where on the list is to be watched.
    pub(crate) version: String,
}

/// What a line of a watch says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said<T> {
    /// An object is there, or has changed.
    Applied(T),
    /// It is gone; this is what it was at last.
    Deleted(T),
    /// Nothing has happened up to here.
    Bookmark,
    /// The watch goes no further.
    Failed(Status),
}

/// Something that a server does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// Reads a page; `most` of its objects at most, the rest is passed over.
pub(crate) fn page<T: DeserializeOwned>(bytes: &[u8], most: usize) -> Result<Page<T>, Unreadable> {
    let list: List<'_> = serde_json::from_slice(bytes).map_err(|_| Unreadable)?;
    let version = list.metadata.resource_version.filter(|version| is_version(version));
    let mut page = Page {
        items: Vec::new(),
        unreadable: 0,
        next: list.metadata.r#continue.filter(|next| !next.is_empty()),
        version: version.ok_or(Unreadable)?,
    };
    for item in list.items.unwrap_or_default() {
        match serde_json::from_str(item.get()) {
            Ok(item) if page.items.len() < most => page.items.push(item),
            _ => page.unreadable += 1,
        }
    }
    Ok(page)
}

/// Reads a line: what it says, and from where on to watch when it has been heard.
pub(crate) fn line<T: DeserializeOwned>(
    bytes: &[u8],
) -> Result<(Said<T>, Option<String>), Unreadable> {
    let Line { r#type, object } = serde_json::from_slice(bytes).map_err(|_| Unreadable)?;
    let text = object.get();
    let said = match r#type.as_str() {
        "ERROR" => {
            let status = serde_json::from_str(text).map_err(|_| Unreadable)?;
            return Ok((Said::Failed(status), None));
        }
        "BOOKMARK" => Said::Bookmark,
        "ADDED" | "MODIFIED" => Said::Applied(object_of(text)?),
        "DELETED" => Said::Deleted(object_of(text)?),
        _ => return Err(Unreadable),
    };
    Ok((said, version(text)))
}

fn object_of<T: DeserializeOwned>(text: &str) -> Result<T, Unreadable> {
    serde_json::from_str(text).map_err(|_| Unreadable)
}

fn version(object: &str) -> Option<String> {
    let object: Object = serde_json::from_str(object).ok()?;
    object.metadata?.resource_version.filter(|version| is_version(version))
}

/// What is put into a query as it is.
fn is_version(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// What a refusal says; it may be no JSON at all.
pub(crate) fn status(body: &[u8]) -> Status {
    serde_json::from_slice(body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::named::{Named, named};

    #[test]
    fn a_page_is_read_object_by_object() {
        let text = br#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7","continue":"next==","remainingItemCount":3},"items":[{"metadata":{"name":"a","uid":"1"}},7,{"metadata":{"name":"b"}},{"metadata":{"name":"c"}}]}"#;
        let read = page::<Named>(text, 2).unwrap();
        assert_eq!((read.items, read.unreadable), (vec![named("a"), named("b")], 2));
        assert_eq!((read.next.as_deref(), read.version.as_str()), (Some("next=="), "7"));
        let empty =
            page::<Named>(br#"{"metadata":{"resourceVersion":"8","continue":""},"items":null}"#, 9);
        assert_eq!(empty.unwrap().next, None);
        for odd in
            ["", "[]", "{}", r#"{"metadata":{}}"#, r#"{"metadata":{"resourceVersion":"&a"}}"#]
        {
            assert!(page::<Named>(odd.as_bytes(), 9).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_line_is_an_event() {
        let read = |text: &str| line::<Named>(text.as_bytes());
        let object = r#"{"metadata":{"name":"a","resourceVersion":"9"}}"#;
        let nine = Some("9".to_owned());
        for kind in ["ADDED", "MODIFIED"] {
            let text = format!(r#"{{"type":"{kind}","object":{object}}}"#);
            assert_eq!(read(&text), Ok((Said::Applied(named("a")), nine.clone())));
        }
        let text = format!(r#"{{"type":"DELETED","object":{object}}}"#);
        assert_eq!(read(&text), Ok((Said::Deleted(named("a")), nine)));
        let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"12746","creationTimestamp":null},"spec":{"containers":null},"status":{}}}"#;
        assert_eq!(read(bookmark), Ok((Said::Bookmark, Some("12746".to_owned()))));
        let gone = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version: 1 (5)","reason":"Expired","code":410}}"#;
        let message = "too old resource version: 1 (5)".to_owned();
        assert_eq!(read(gone), Ok((Said::Failed(Status { code: GONE, message }), None)));
        for odd in ["{}", r#"{"type":"ADDED","object":7}"#, r#"{"type":"X","object":{}}"#] {
            assert_eq!(read(odd), Err(Unreadable), "{odd}");
        }
    }

    #[test]
    fn a_refusal_may_say_anything() {
        assert_eq!(status(b"Unauthorized\n"), Status::default());
        assert_eq!(status(br#"{"code":403,"message":"no"}"#).message, "no");
    }
}
