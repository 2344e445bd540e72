//! One connection: a request, and what is said to it.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::TcpStream,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{Asked, Gone, Kind, Shared, State, recorded};

/// A client that says nothing for so long has gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is said to a request.
enum Answer {
    Whole(u16, String),
    /// A watch from this place of the log on, that begins with what has been missed, until it is cut once more.
    Watch {
        kind: &'static str,
        from: usize,
        missed: Vec<u8>,
        cuts: u64,
    },
}

/// Whatever goes wrong is the client's to notice.
pub(super) fn serve(stream: TcpStream, tls: Arc<ServerConfig>, shared: &Shared) -> Option<()> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_nodelay(true).ok()?;
    let connection = ServerConnection::new(tls).ok()?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut asked = read(&mut stream)?;
    let answer = {
        let mut state = shared.lock();
        let answer = answer(&mut state, &asked);
        asked.status = match answer {
            Answer::Whole(status, _) => status,
            Answer::Watch { .. } => 200,
        };
        state.asked.push(asked);
        state.watching += usize::from(matches!(answer, Answer::Watch { .. }));
        answer
    };
    shared.changed.notify_all();
    match answer {
        Answer::Whole(status, body) => {
            let head = format!(
                "HTTP/1.1 {status} x\r\nAudit-Id: 0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all((head + &body).as_bytes()).ok()?;
            stream.conn.send_close_notify();
            stream.flush().ok()
        }
        Answer::Watch { kind, from, missed, cuts } => {
            let ended = watch(&mut stream, shared, (kind, from), &missed, cuts);
            shared.lock().watching -= 1;
            shared.changed.notify_all();
            ended
        }
    }
}

fn read(stream: impl Read) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next()?.ok()?;
    let mut token = String::new();
    for line in lines {
        let line = line.ok()?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("authorization")
        {
            value.strip_prefix("Bearer ").unwrap_or_default().clone_into(&mut token);
        }
    }
    let mut words = request.split(' ');
    let target = (words.next() == Some("GET")).then(|| words.next())??;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (plain(key), plain(value))
    };
    let query = query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect();
    Some(Asked { path: path.to_owned(), query, token, status: 0 })
}

/// A text of a query, as it was meant.
fn plain(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn answer(state: &mut State, asked: &Asked) -> Answer {
    if asked.token != state.token {
        return Answer::Whole(401, recorded::UNAUTHORIZED.to_owned());
    }
    if let Some((status, body)) = &state.refuses {
        return Answer::Whole(*status, body.clone());
    }
    let wrong = |reason: &str| {
        let status = format!(
            r#"{{"kind":"Status","apiVersion":"v1","metadata":{{}},"status":"Failure","message":"{reason}","reason":"BadRequest","code":400}}"#
        );
        Answer::Whole(400, status)
    };
    let is_meant =
        |kind: &&Kind| asked.path == kind.path && asked.of("fieldSelector") == kind.field_selector;
    let Some(kind) = state.kinds.iter().find(is_meant) else {
        return wrong("it is not asked for that");
    };
    if asked.is_watch() {
        return watch_from(state, kind, asked).unwrap_or_else(|| wrong("no such watch"));
    }
    if asked.of("limit").parse().is_ok_and(|limit: u32| limit > 0) {
        let page = match asked.of("resourceVersion") {
            "0" => at_once(kind),
            _ => page(kind, asked.of("continue")),
        };
        return page.unwrap_or_else(|| wrong("no such page"));
    }
    wrong("all at once")
}

fn watch_from(state: &State, kind: &Kind, asked: &Asked) -> Option<Answer> {
    let version: u64 = asked.of("resourceVersion").parse().ok()?;
    let seconds: u64 = asked.of("timeoutSeconds").parse().ok()?;
    if asked.of("allowWatchBookmarks") != "true" || seconds == 0 {
        return None;
    }
    if version >= state.oldest {
        let of_it = state.log.iter().filter(|happened| happened.is_of(kind.name));
        let missed = of_it.filter(|happened| happened.version.is_some_and(|of| of > version));
        let missed = missed.flat_map(|happened| happened.line.iter().copied()).collect();
        let (kind, from) = (kind.name, state.log.len());
        return Some(Answer::Watch { kind, from, missed, cuts: state.cuts.0 });
    }
    Some(match state.gone {
        Gone::Status => Answer::Whole(410, recorded::GONE.to_owned()),
        Gone::Event => Answer::Whole(200, recorded::EXPIRED.to_owned()),
    })
}

/// All pages as one: a server passes over the limit when it answers with what it has in memory.
fn at_once(kind: &Kind) -> Option<Answer> {
    let read = |page: &String| serde_json::from_str::<serde_json::Value>(page).ok();
    let mut pages: Vec<_> = kind.pages.iter().filter_map(read).collect();
    let items = pages.iter_mut().filter_map(|page| page["items"].as_array_mut());
    let items: Vec<_> = items.flat_map(std::mem::take).collect();
    let mut list = pages.pop()?;
    list["items"] = items.into();
    Some(Answer::Whole(200, list.to_string()))
}

/// The page behind the one whose `continue` this is.
fn page(kind: &Kind, next: &str) -> Option<Answer> {
    if next.is_empty() {
        return kind.pages.first().map(|page| Answer::Whole(200, page.clone()));
    }
    let mut pages = kind.pages.iter();
    let follows = |page: &String| {
        let page: serde_json::Value = serde_json::from_str(page).unwrap_or_default();
        page["metadata"]["continue"] == next
    };
    pages.find(|page| follows(page))?;
    pages.next().map(|page| Answer::Whole(200, page.clone()))
}

fn watch(
    stream: &mut StreamOwned<ServerConnection, TcpStream>,
    shared: &Shared,
    (kind, mut from): (&str, usize),
    missed: &[u8],
    cuts: u64,
) -> Option<()> {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).ok()?;
    write_chunk(stream, missed)?;
    let mut state = shared.lock();
    loop {
        while state.log.len() == from && state.cuts.0 == cuts && !shared.over.load(Ordering::SeqCst)
        {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let new = state.log[from..].iter().filter(|happened| happened.is_of(kind));
        let new: Vec<u8> = new.flat_map(|happened| happened.line.clone()).collect();
        from = state.log.len();
        let is_cut = state.cuts.0 != cuts;
        let has_end = state.cuts.1;
        let over = shared.over.load(Ordering::SeqCst);
        drop(state);
        write_chunk(stream, &new)?;
        if is_cut || over {
            if has_end {
                stream.write_all(b"0\r\n\r\n").ok()?;
            }
            return stream.flush().ok();
        }
        state = shared.lock();
    }
}

fn write_chunk(stream: &mut impl Write, bytes: &[u8]) -> Option<()> {
    if !bytes.is_empty() {
        let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        stream.write_all(&chunk).ok()?;
    }
    stream.flush().ok()
}
