//! A container engine that answers as Docker does, over a real socket, as badly as it is told to.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::broadcast,
    task::JoinHandle,
};

const HEAD: &str = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\n";

/// What a stream of events gets.
#[derive(Clone, Debug)]
enum Piece {
    Bytes(Vec<u8>),
    /// The connection ends without the end of the answer.
    Cut,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Containers of the list, in JSON.
    pub(crate) running: Vec<String>,
    /// Paths that were asked for.
    pub(crate) asked: Vec<String>,
    /// It says that it will not.
    pub(crate) refuses: bool,
    /// It does not begin to answer before something happens, as Podman does.
    pub(crate) is_late: bool,
}

/// The engine. Dropping it ends it, and its socket is gone.
#[derive(Debug)]
pub(crate) struct FakeEngine {
    socket: PathBuf,
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<Piece>,
    serving: JoinHandle<()>,
}

impl FakeEngine {
    pub(crate) fn start(socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let (events, _) = broadcast::channel(64);
        let state = Arc::<Mutex<State>>::default();
        let (shared, sender) = (Arc::clone(&state), events.clone());
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&shared), sender.clone()));
            }
        });
        Self { socket: socket.to_owned(), state, events, serving }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Streams of events that are listened to.
    pub(crate) fn listeners(&self) -> usize {
        self.events.receiver_count()
    }

    /// Sends a chunk to whoever listens.
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        let _ = self.events.send(Piece::Bytes(bytes.as_ref().to_vec()));
    }

    /// Breaks the streams of events.
    pub(crate) fn cut(&self) {
        let _ = self.events.send(Piece::Cut);
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.serving.abort();
        self.cut();
        let _ = std::fs::remove_file(&self.socket);
    }
}

async fn serve(
    mut stream: UnixStream,
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<Piece>,
) -> Option<()> {
    // Before anything is said, as an engine does that is asked what has happened since.
    let mut pieces = events.subscribe();
    let mut lines = BufReader::new(&mut stream).lines();
    let request = lines.next_line().await.ok()??;
    while lines.next_line().await.ok()?.is_some_and(|line| !line.is_empty()) {}
    let path = request.split(' ').nth(1)?.to_owned();
    let (refuses, is_late, body) = {
        let mut state = state.lock().unwrap();
        state.asked.push(path.clone());
        (state.refuses, state.is_late, format!("[{}]\n", state.running.join(",")))
    };
    if refuses {
        let answer = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
        return stream.write_all(answer.as_bytes()).await.ok();
    }
    if !path.starts_with("/events") {
        drop(pieces);
        let answer = format!("{HEAD}Content-Length: {}\r\n\r\n{body}", body.len());
        return stream.write_all(answer.as_bytes()).await.ok();
    }
    let mut head = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n");
    if !is_late {
        stream.write_all(std::mem::take(&mut head).as_bytes()).await.ok()?;
    }
    while let Ok(Piece::Bytes(bytes)) = pieces.recv().await {
        stream.write_all(std::mem::take(&mut head).as_bytes()).await.ok()?;
        let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat();
        stream.write_all(&chunk).await.ok()?;
    }
    Some(())
}

/// An event, as Docker 20.10 writes it.
pub(crate) fn event(action: &str, id: &str, name: &str, time: u64) -> String {
    let head = format!(r#"{{"status":"{action}","id":"{id}","from":"shop:1","Type":"container""#);
    let actor = format!(
        r#""Actor":{{"ID":"{id}","Attributes":{{"com.docker.compose.project":"shop","com.docker.compose.service":"web","image":"shop:1","name":"{name}"}}}}"#
    );
    format!(
        "{head},\"Action\":\"{action}\",{actor},\"scope\":\"local\",\"time\":{time},\"timeNano\":{time}918657610}}\n"
    )
}

/// A container of the list.
pub(crate) fn listed(id: &str, name: &str) -> String {
    format!(
        r#"{{"Id":"{id}","Names":["/{name}"],"Image":"shop:1","Created":1795284683,"Ports":[],"Labels":{{}},"State":"running","HostConfig":{{"NetworkMode":"n1"}},"Mounts":[]}}"#
    )
}

/// The whole id that begins so.
pub(crate) fn id(short: &str) -> String {
    format!("{short:0<64}")
}
