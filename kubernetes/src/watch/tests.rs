use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    answers::PAGE_BYTES,
    named::{Named, named},
};

/// One answer of a server.
#[derive(Clone, Debug)]
enum Answer {
    /// Whole, with this status.
    Body(u16, String),
    /// In chunks, with or without an end.
    Stream(String, bool),
}

/// How a list is asked for.
const LIST: &str = "/api/v1/pods?fieldSelector=spec.nodeName%3Da&limit=2";

type Asked = Arc<Mutex<Vec<String>>>;

/// A server with these answers, one after the other, and a watch of it.
async fn setup(answers: Vec<Answer>) -> (Watch<Named>, Asked) {
    let mut answers = VecDeque::from(answers);
    setup_with(move |_| answers.pop_front()).await
}

/// A server that answers so to what it is asked for, and a watch of it.
async fn setup_with(
    mut answer: impl FnMut(&str) -> Option<Answer> + Send + 'static,
) -> (Watch<Named>, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Asked::default();
    let noted = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Who has given up may have gone.
            let Some(target) = read(&mut stream).await else { continue };
            let Some(answer) = answer(&target) else { break };
            noted.lock().unwrap().push(target.clone());
            serve(stream, answer, &target).await;
        }
        std::future::pending::<()>().await;
    });
    let access = Access::at(&url, None, None).unwrap();
    let collection = Collection {
        field_selector: Some("spec.nodeName=a".to_owned()),
        page: 2,
        ..Collection::all("/api/v1/pods")
    };
    (Watch::new(access, collection), asked)
}

/// What a request is for.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next_line().await.ok()??;
    while !lines.next_line().await.ok()??.is_empty() {}
    Some(request.split(' ').nth(1)?.to_owned())
}

async fn serve(mut stream: TcpStream, answer: Answer, target: &str) {
    if let Answer::Body(_, body) = &answer {
        let is_at_once = body.contains("\"continue\":\"\"") || !body.contains("\"continue\":");
        assert!(
            is_at_once || !target.ends_with("resourceVersion=0"),
            "no server gives a page of it"
        );
    }
    let text = match answer {
        Answer::Body(status, body) => {
            format!(
                "HTTP/1.1 {status} x\r\nRetry-After: 1\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        }
        Answer::Stream(body, ends) => {
            let end = if ends { "0\r\n\r\n" } else { "" };
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            format!("{head}{:x}\r\n{body}\r\n{end}", body.len())
        }
    };
    // Who has heard enough may have gone.
    let _ = stream.write_all(text.as_bytes()).await;
}

fn page(names: &[&str], next: &str, version: u64) -> Answer {
    let items: Vec<_> =
        names.iter().map(|name| format!(r#"{{"metadata":{{"name":"{name}"}}}}"#)).collect();
    let items = items.join(",");
    Answer::Body(
        200,
        format!(
            r#"{{"metadata":{{"resourceVersion":"{version}","continue":"{next}"}},"items":[{items}]}}"#
        ),
    )
}

fn event(kind: &str, name: &str, version: u64) -> String {
    format!(
        "{{\"type\":\"{kind}\",\"object\":{{\"metadata\":{{\"name\":\"{name}\",\"resourceVersion\":\"{version}\"}}}}}}\n"
    )
}

fn gone() -> String {
    "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,\"reason\":\"Expired\",\"message\":\"too old\"}}\n".to_owned()
}

/// What is next, in words.
async fn next(watch: &mut Watch<Named>) -> String {
    match timeout(Duration::from_secs(30), watch.next()).await.unwrap() {
        Ok(Event::Restarted(all)) => {
            let names: Vec<_> = all.iter().map(Named::name).collect();
            format!("all {}", names.join(" "))
        }
        Ok(Event::Applied(one)) => format!("+{}", one.name()),
        Ok(Event::Deleted(one)) => format!("-{}", one.name()),
        Ok(Event::Watching) => "watching".to_owned(),
        Ok(Event::Bookmark) => "bookmark".to_owned(),
        Err(error) => error.to_string(),
    }
}

async fn must_say(watch: &mut Watch<Named>, expected: &[&str]) {
    for expected in expected {
        let said = next(watch).await;
        assert!(said.starts_with(expected), "{said} instead of {expected}");
    }
}

fn query(asked: &Asked, number: usize) -> String {
    asked.lock().unwrap()[number].clone()
}

#[tokio::test]
async fn a_list_then_a_watch_that_goes_on_where_it_ended() {
    let first = event("ADDED", "d", 11) + &event("BOOKMARK", "", 15) + &event("DELETED", "a", 14);
    let (mut watch, asked) = setup(vec![
        page(&["a", "b", "c"], "", 10),
        Answer::Stream(first.replace("\"14\"", "\"16\""), true),
        Answer::Stream(event("MODIFIED", "c", 17), true),
    ])
    .await;
    must_say(&mut watch, &["all a b c", "watching", "+d", "bookmark", "-a", "watching", "+c"])
        .await;
    assert_eq!(query(&asked, 0), format!("{LIST}&resourceVersion=0"));
    let begin = "/api/v1/pods?fieldSelector=spec.nodeName%3Da&watch=true&allowWatchBookmarks=true";
    let from = |version| format!("{begin}&resourceVersion={version}&timeoutSeconds=");
    assert!(query(&asked, 1).starts_with(&from(10)), "{}", query(&asked, 1));
    assert!(query(&asked, 2).starts_with(&from(16)), "{}", query(&asked, 2));
}

#[tokio::test]
async fn a_list_that_is_too_long_at_once_is_read_in_pages() {
    let (mut watch, asked) = setup(vec![
        Answer::Body(200, " ".repeat(PAGE_BYTES + 1)),
        page(&["a", "b"], "p=2", 10),
        page(&["c"], "", 10),
        Answer::Stream(event("ADDED", "d", 11), true),
    ])
    .await;
    must_say(&mut watch, &["a page of its list is longer", "all a b c", "watching", "+d"]).await;
    assert_eq!(query(&asked, 0), format!("{LIST}&resourceVersion=0"));
    assert_eq!(query(&asked, 1), LIST);
    assert_eq!(query(&asked, 2), format!("{LIST}&continue=p%3D2"));
}

#[tokio::test]
async fn a_list_of_everything_that_does_not_come_is_read_in_pages() {
    let (mut watch, _) = setup(Vec::new()).await;
    watch.doubt(RequestError::Silent);
    assert!(!watch.in_pages, "a part is short, and asked for by many");
    watch.collection.field_selector = None;
    watch.version = Some("10".to_owned());
    watch.doubt(RequestError::Silent);
    assert!(!watch.in_pages, "it was a watch");
    watch.version = None;
    watch.doubt(RequestError::Silent);
    assert!(watch.in_pages);
}

#[tokio::test]
async fn bookmarks_count_when_it_broke_off() {
    let cut = event("BOOKMARK", "", 30) + &event("ADDED", "b", 31)[..20];
    let (mut watch, asked) = setup(vec![
        page(&["a"], "", 10),
        Answer::Stream(cut.clone(), false),
        Answer::Stream(cut, true),
        Answer::Stream(event("ADDED", "b", 31), true),
    ])
    .await;
    must_say(&mut watch, &["all a", "watching", "bookmark", "http: "]).await;
    must_say(&mut watch, &["watching", "bookmark", "it broke off", "watching", "+b"]).await;
    assert!(query(&asked, 3).contains("&resourceVersion=30&"), "{}", query(&asked, 3));
}

#[tokio::test]
async fn what_is_forgotten_is_listed_anew() {
    let expired = || Answer::Body(410, "{\"code\":410}".to_owned());
    let (mut watch, asked) = setup(vec![
        page(&["a"], "", 11),
        Answer::Stream(event("ADDED", "b", 12) + &gone() + &event("ADDED", "never", 13), true),
        page(&["b"], "more", 19),
        expired(),
        page(&["b"], "", 20),
        expired(),
        page(&["c"], "", 30),
        Answer::Stream(event("ADDED", "d", 31), true),
    ])
    .await;
    must_say(&mut watch, &["all a", "watching", "+b"]).await;
    // In the watch, between two pages, and instead of a watch.
    must_say(&mut watch, &["it does not remember", "it does not remember", "all b"]).await;
    must_say(&mut watch, &["it does not remember", "all c"]).await;
    must_say(&mut watch, &["watching", "+d"]).await;
    for number in [2, 4, 6] {
        assert_eq!(query(&asked, number), LIST);
    }
}

#[tokio::test]
async fn who_has_heard_nothing_yet_is_content_with_what_the_server_has() {
    let (mut watch, asked) = setup(vec![
        Answer::Body(404, "404 page not found".to_owned()),
        page(&["a"], "", 10),
        Answer::Body(400, "{\"code\":400}".to_owned()),
        page(&["b"], "", 20),
        Answer::Stream(event("ADDED", "c", 21), true),
    ])
    .await;
    must_say(&mut watch, &["it answers with 404", "all a", "it answers with 400", "all b"]).await;
    must_say(&mut watch, &["watching", "+c"]).await;
    // A server that has just begun does not know its collections, and a fleet is not to reach its database for that.
    assert_eq!(query(&asked, 1), format!("{LIST}&resourceVersion=0"));
    // What was known may be newer than what it has in memory.
    assert_eq!(query(&asked, 3), LIST);
    assert!(!watch.of_now, "that list was of then");
}

#[tokio::test]
async fn a_server_that_will_not_is_asked_again_after_a_while() {
    let body = |status, text: &str| Answer::Body(status, text.to_owned());
    let (mut watch, asked) = setup(vec![
        body(403, r#"{"code":403,"message":"pods is forbidden"}"#),
        body(401, "Unauthorized"),
        page(&[], "", 10),
        body(503, "no"),
        body(403, "{}"),
        Answer::Stream("7\n{}\n".to_owned() + &event("ADDED", "a", 11), true),
    ])
    .await;
    must_say(&mut watch, &["it may not be asked (403): pods is forbidden"]).await;
    must_say(&mut watch, &["it does not know the token", "all "]).await;
    let began = Instant::now();
    must_say(&mut watch, &["it answers with 503: ", "it may not", "watching", "+a"]).await;
    assert!(began.elapsed() >= Duration::from_secs(1), "as long as it wants to be left in peace");
    must_say(&mut watch, &["2 of the objects"]).await;
    // Trouble is no reason to list everything.
    assert!(query(&asked, 5).contains("&resourceVersion=10&"), "{}", query(&asked, 5));
}

#[tokio::test]
async fn what_is_too_much_is_said() {
    let (mut watch, asked) = setup(vec![page(&["a", "b"], "more", 10), page(&["c"], "", 10)]).await;
    (watch.collection.most, watch.in_pages) = (1, true);
    must_say(&mut watch, &["all a", "1 of the objects"]).await;
    assert_eq!(asked.lock().unwrap().len(), 1);
    assert_eq!(watch.version.as_deref(), Some("10"));
    let (mut watch, _) = setup(vec![Answer::Body(200, "{}".to_owned())]).await;
    must_say(&mut watch, &["what it answers is not a list"]).await;
}

#[test]
fn silence_has_lasted_when_it_is_noticed() {
    assert_eq!(WatchError::Silent.unheard(), SILENT);
    assert_eq!(WatchError::from(RequestError::Silent).unheard(), ANSWER_TIME);
    assert_eq!(WatchError::Expired.unheard(), Duration::ZERO);
}

#[tokio::test]
async fn waiting_may_be_given_up_at_any_time() {
    let (mut watch, _) = setup_with(|target| {
        let events = event("ADDED", "b", 11) + &event("ADDED", "c", 12);
        let is_watch = target.contains("watch=true");
        Some(if is_watch { Answer::Stream(events, true) } else { page(&["a"], "", 10) })
    })
    .await;
    let (mut said, mut patience) = (Vec::new(), Duration::from_micros(50));
    while said.len() < 4 {
        if let Ok(next) = timeout(patience, watch.next()).await {
            said.push(format!("{next:?}"));
        }
        // At last it is long enough, however slow it is here.
        patience = patience.mul_f64(1.1);
    }
    assert_eq!(said[2], format!("{:?}", Ok::<_, WatchError>(Event::Applied(named("b")))));
}
