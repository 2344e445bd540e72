use std::fs;

use tokio::sync::mpsc;

use super::*;
use crate::testing::engine::id;

fn roots(dir: &Path) -> Vec<PathBuf> {
    ["containerd", "storage", "not-there"].map(|name| dir.join(name)).into()
}

fn bundle(dir: &Path, id: &str, name: &str) -> PathBuf {
    let bundle = dir.join("containerd/io.containerd.runtime.v2.task/default").join(id);
    fs::create_dir_all(&bundle).unwrap();
    let text = format!(r#"{{"annotations":{{"nerdctl/name":"{name}"}}}}"#);
    fs::write(bundle.join("config.json"), text).unwrap();
    bundle
}

fn list(dir: &Path, list: &str, containers: &[(&str, &str)]) {
    let folder = dir.join("storage/overlay-containers");
    fs::create_dir_all(&folder).unwrap();
    let one = |(id, name): &(&str, &str)| format!(r#"{{"id":"{id}","names":["{name}"]}}"#);
    let text: Vec<_> = containers.iter().map(one).collect();
    fs::write(folder.join(list), format!("[{}]", text.join(","))).unwrap();
}

fn said(news: &mut mpsc::Receiver<Told>) -> Vec<(bool, String)> {
    let mut said = Vec::new();
    while let Ok(told) = news.try_recv() {
        assert_eq!(told.source, Source::Files);
        said.push(match told.news {
            News::Called(name) => (true, name.called.name),
            News::Ended(name) => (false, name.called.name),
            News::Running(_) => panic!("{told:?}"),
        });
    }
    said
}

#[test]
fn names_are_found_when_they_are_asked_for_and_go_with_the_container() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b, c) = (id("a1"), id("b2"), id("c3"));
    let bundled = bundle(dir.path(), &a, "web");
    bundle(dir.path(), &id("d4"), "not asked for");
    list(dir.path(), "containers.json", &[(&b, "db"), (&id("e5"), "not asked for")]);
    list(dir.path(), "volatile-containers.json", &[(&c, "job")]);
    let (told, mut news) = mpsc::channel(16);
    let files = Files { roots: roots(dir.path()), labels: Labels::default() };
    let mut looking = Looking { files, told, found: BTreeMap::new() };
    let short = |id: &str| id[..super::super::ID_DIGITS].to_owned();
    let asked = [short(&a), short(&b), short(&c), "ffffffffffff".to_owned()].into();
    assert!(looking.answer(&asked).is_ok());
    let called = |name: &str| (true, name.to_owned());
    assert_eq!(said(&mut news), [called("web"), called("db"), called("job")]);
    assert!(looking.look_after().is_ok());
    assert!(said(&mut news).is_empty(), "all are still there");
    fs::remove_dir_all(bundled).unwrap();
    list(dir.path(), "volatile-containers.json", &[]);
    assert!(looking.look_after().is_ok());
    let ended = |name: &str| (false, name.to_owned());
    assert_eq!(said(&mut news), [ended("web"), ended("job")]);
    assert!(looking.look_after().is_ok());
    assert!(said(&mut news).is_empty(), "once is enough");
    drop(news);
    bundle(dir.path(), &a, "web");
    assert!(looking.answer(&[short(&a)].into()).is_err(), "nobody listens");
}

#[tokio::test]
async fn whoever_asks_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    bundle(dir.path(), &id("a1"), "web");
    let (told, mut news) = mpsc::channel(16);
    let files = Files { roots: roots(dir.path()), labels: Labels::default() };
    let ask = files.start(told).unwrap();
    ask.send(id("a1")[..super::super::ID_DIGITS].to_owned()).unwrap();
    let told = news.recv().await.unwrap();
    assert!(matches!(told.news, News::Called(name) if name.called.name == "web"));
    drop(ask);
    assert!(news.recv().await.is_none(), "it ends with the collector");
}
