//! Workers that stand still, and a client that speaks HTTP by hand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use spill_dashboard::{Dashboard, DashboardBuilder};
use spill_worker::{Event, EventKind, Observe, Readings, WorkerState};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Workers that never change.
pub(crate) struct Still(pub(crate) Vec<WorkerState>);

impl Observe for Still {
    fn workers(&self) -> Vec<WorkerState> {
        self.0.clone()
    }
}

pub(crate) fn worker(name: &str) -> WorkerState {
    let mut worker = WorkerState::default();
    worker.name = name.to_owned();
    worker.pid = 7;
    worker.limit = Some(1000);
    worker.readings =
        Readings { process: 600, managed: 300, unmanaged: 200, unmanaged_recent: 100, spilled: 50 };
    worker.storage.write.count = 1;
    worker.events = vec![Event { number: 0, at: 0.0, kind: EventKind::Spilling, text: "now".to_owned() }];
    worker
}

/// A builder over two workers, on a port that the system chooses.
pub(crate) fn builder() -> DashboardBuilder {
    let workers = Still(vec![worker("a"), worker("<b>\"\n")]);
    Dashboard::builder(Arc::new(workers))
        .address(([127, 0, 0, 1], 0).into())
        .interval(Duration::from_millis(20))
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: String,
}

/// Sends a request as it is, and reads until the server closes.
pub(crate) fn send(address: SocketAddr, request: &str) -> Answer {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (headers, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = headers.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, headers: headers.to_lowercase(), body: body.to_owned() }
}

/// Asks with these headers besides; `Host` is right unless given.
pub(crate) fn ask(dashboard: &Dashboard, line: &str, headers: &str) -> Answer {
    let host = match headers.to_lowercase().contains("host:") {
        true => String::new(),
        false => format!("Host: {}\r\n", dashboard.address()),
    };
    send(dashboard.address(), &format!("{line} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n"))
}

pub(crate) fn get(dashboard: &Dashboard, path: &str) -> Answer {
    ask(dashboard, &format!("GET {path}"), "")
}

/// Opens the stream.
pub(crate) fn stream(address: SocketAddr) -> BufReader<TcpStream> {
    let mut stream = connect(address);
    write!(stream, "GET /api/v1/stream HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    BufReader::new(stream)
}

/// The next message: its name and its data. Chunk sizes are passed by.
pub(crate) fn message(stream: &mut BufReader<TcpStream>) -> (String, serde_json::Value) {
    let (mut name, mut line) = (String::new(), String::new());
    loop {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream ended");
        if let Some(event) = line.strip_prefix("event: ") {
            name = event.trim().to_owned();
        } else if let Some(data) = line.strip_prefix("data: ") {
            return (name, serde_json::from_str(data.trim()).unwrap());
        }
    }
}
