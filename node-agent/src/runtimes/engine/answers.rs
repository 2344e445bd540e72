//! What the engine answers: events and the list of containers, in its JSON.

use std::{collections::BTreeMap, time::Duration};

use proto::convert::ContainerName;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::{Labels, News, short};

/// Bytes of the list that are read: a thousand containers, each with many labels and networks.
pub(super) const LIST_BYTES: usize = 16 << 20;

/// The longest event that is read, in bytes: one has the labels of its container, of some hundred bytes each.
pub(crate) const LINE_BYTES: usize = 256 << 10;

/// What marks the begin of a record in a sequence of JSON texts (RFC 7464), which an engine may write as well.
const RECORD: u8 = 0x1e;

/// What happens to a container after which it is there under a name.
const LIVING: [&str; 5] = ["create", "start", "restart", "rename", "update"];

/// After which it is not; the last two are Podman's words.
const ENDING: [&str; 4] = ["die", "destroy", "died", "remove"];

/// What is asked for: of the many other events, each health check makes three.
pub(super) fn asked_for() -> impl Iterator<Item = &'static str> {
    LIVING.into_iter().chain(ENDING)
}

/// Something that is no event, or no container, as the engine documents it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// An event that says something of a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// When it happened, since 1970 by the engine's clock.
    pub(crate) time: Option<Duration>,
    pub(crate) news: News,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    r#type: Option<String>,
    action: String,
    actor: Actor,
    #[serde(rename = "time")]
    time: Option<u64>,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    /// Name, image and labels, side by side.
    #[serde(rename = "Attributes")]
    attributes: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    names: Option<Vec<String>>,
    image: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

/// Reads answers.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    labels: Labels,
}

impl Answers {
    pub(crate) fn new(labels: Labels) -> Self {
        Self { labels }
    }

    /// What an event says; `None` when it says nothing of a name.
    pub(crate) fn event(&self, line: &[u8]) -> Result<Option<Heard>, Unreadable> {
        let line = match line.strip_prefix(&[RECORD]) {
            Some([]) => return Ok(None),
            record => record.unwrap_or(line),
        };
        let event: Event = serde_json::from_slice(line).map_err(|_| Unreadable)?;
        let ends = ENDING.contains(&event.action.as_str());
        let is_container = event.r#type.is_none_or(|kind| kind == "container");
        if !is_container || !ends && !LIVING.contains(&event.action.as_str()) {
            return Ok(None);
        }
        let attributes = event.actor.attributes.unwrap_or_default();
        let of = |key: &str| attributes.get(key).map(String::as_str).unwrap_or_default();
        let name = self.name(&event.actor.id, of("name"), of("image"), &attributes);
        let name = name.ok_or(Unreadable)?;
        let news = if ends { News::Ended(name) } else { News::Called(name) };
        Ok(Some(Heard { time: event.time.map(Duration::from_secs), news }))
    }

    /// The containers of a list, and how many of them cannot be read; `None` when it is no list.
    pub(crate) fn list(&self, body: &[u8]) -> Option<(Vec<ContainerName>, u64)> {
        let listed: Vec<&RawValue> = serde_json::from_slice(body).ok()?;
        let (mut names, mut unreadable) = (Vec::with_capacity(listed.len()), 0);
        for one in listed {
            match serde_json::from_str(one.get()).ok().and_then(|one| self.listed(&one)) {
                Some(name) => names.push(name),
                None => unreadable += 1,
            }
        }
        Some((names, unreadable))
    }

    fn listed(&self, listed: &Listed) -> Option<ContainerName> {
        // Those with another slash are what links of other containers call it.
        let own = |name: &&String| !name.trim_start_matches('/').contains('/');
        let names = listed.names.as_deref().unwrap_or_default();
        let name = names.iter().find(own).map(String::as_str).unwrap_or_default();
        let labels = listed.labels.clone().unwrap_or_default();
        self.name(&listed.id, name, listed.image.as_deref().unwrap_or_default(), &labels)
    }

    fn name(
        &self,
        id: &str,
        name: &str,
        image: &str,
        labels: &BTreeMap<String, String>,
    ) -> Option<ContainerName> {
        let called = self.labels.called(name, image, labels)?;
        Some(ContainerName { container: short(id)?.to_owned(), called })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Docker 20.10 wrote it.
    const CREATED: &str = r#"{"status":"create","id":"69e2ffc0a263c8af0f7df720a5e4ba6fdd1411f523aa6586e3c3c9d92f97a137","from":"shop:1","Type":"container","Action":"create","Actor":{"ID":"69e2ffc0a263c8af0f7df720a5e4ba6fdd1411f523aa6586e3c3c9d92f97a137","Attributes":{"com.docker.compose.project":"shop","com.docker.compose.service":"web","image":"shop:1","name":"web-1","odd":"é \"q\" {"}},"scope":"local","time":1795284683,"timeNano":1795284683918657610}"#;

    /// So, too.
    const LIST: &str = r#"[{"Id":"69e2ffc0a263c8af0f7df720a5e4ba6fdd1411f523aa6586e3c3c9d92f97a137","Names":["/db/web","/web-2"],"Image":"shop:1","ImageID":"sha256:62982bbe6ea8b08e9d913287d76689bd399e449ffd141e136f049af2d398d4de","Command":"/bin/busybox sleep 100","Created":1795284683,"Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"}],"Labels":{"com.docker.compose.project":"shop","com.docker.compose.service":"web","odd":"é \"q\" {"},"State":"running","Status":"Up 1 second","HostConfig":{"NetworkMode":"n1"},"NetworkSettings":{"Networks":{"n1":{"IPAMConfig":null,"Links":null,"IPAddress":"172.18.0.2","IPPrefixLen":16}}},"Mounts":[]}, 7, {"Id":"x"},{"Id":"00e2ffc0a263","Names":["/a"],"Labels":null}]"#;

    fn event(text: &str) -> Result<Option<Heard>, Unreadable> {
        Answers::new(Labels::default()).event(text.as_bytes())
    }

    #[test]
    fn an_event_has_all_of_the_name() {
        let heard = event(CREATED).unwrap().unwrap();
        assert_eq!(heard.time, Some(Duration::from_secs(1_795_284_683)));
        let News::Called(name) = heard.news else { panic!("{heard:?}") };
        assert_eq!(name.container, "69e2ffc0a263");
        assert_eq!((name.called.name.as_str(), name.called.namespace.as_str()), ("web-1", "shop"));
        let labels: Vec<_> = name.called.labels.values().map(String::as_str).collect();
        assert_eq!(labels, ["shop", "web", "shop:1"]);
    }

    #[test]
    fn the_end_of_a_container_names_it_too() {
        for (engine, action) in [("Docker", "die"), ("Podman", "remove")] {
            let ended = event(
                &CREATED.replace("\"Action\":\"create\"", &format!("\"Action\":\"{action}\"")),
            );
            assert!(matches!(ended.unwrap().unwrap().news, News::Ended(_)), "{engine}");
        }
    }

    #[test]
    fn what_says_nothing_of_a_name_is_passed_over() {
        assert_eq!(event(&CREATED.replace(":\"container\"", ":\"network\"")), Ok(None));
        assert_eq!(
            event(&CREATED.replace("\"Action\":\"create\"", "\"Action\":\"top\"")),
            Ok(None)
        );
        for garbage in ["", "{}", "[]", "x", &CREATED.replace("69e2", "xyz!"), &CREATED[..99]] {
            assert_eq!(event(garbage), Err(Unreadable), "{garbage}");
        }
    }

    #[test]
    fn what_cannot_be_read_of_a_list_costs_only_itself() {
        let answers = Answers::new(Labels::default());
        let (names, unreadable) = answers.list(LIST.as_bytes()).unwrap();
        let names: Vec<_> = names.iter().map(|name| name.called.name.as_str()).collect();
        assert_eq!((names, unreadable), (vec!["web-2", "a"], 2));
        assert!(answers.list(b"{\"message\":\"no\"}").is_none());
        assert!(answers.list(&LIST.as_bytes()[..200]).is_none());
    }
}
