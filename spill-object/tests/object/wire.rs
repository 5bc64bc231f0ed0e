//! Servers that break off, hang, lie and cannot be found, as seen through S3's own client.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use spill_core::{Blocking, ErrorKind, MutableMapping};
use spill_object::{Objects, ObjectsConfig, object_store::path::Path};

use crate::support::server::{BUCKET, Server, store};
use crate::support::value;

/// What stands between a client and a real server, and does to the first answers for objects what it was told to.
struct Proxy {
    endpoint: String,
    stop: Arc<AtomicBool>,
    struck: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mischief {
    /// Closes the connection without a word.
    Reset,
    /// Reads the request and closes, after the server has done it.
    ResetAfter,
    /// Answers 503 SlowDown.
    SlowDown,
    /// Answers 500.
    InternalError,
    /// Answers 403 AccessDenied.
    Forbidden,
    /// Answers 404 NoSuchBucket.
    NoBucket,
    /// Ends the body early.
    Truncate,
    /// Sends half of the answer and no more.
    Stall,
    /// Reads the request, has the server do it, and never says so.
    Silence,
    /// Changes the answer's ETag and body.
    Replace,
}

fn forward(request: &[u8], upstream: &str) -> Vec<u8> {
    let mut server = TcpStream::connect(upstream).unwrap();
    server.write_all(request).unwrap();
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).unwrap();
    answer
}

/// One request, its connection marked to close after it. `None` when the client closed.
fn request(client: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 65536];
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        match client.read(&mut piece) {
            Ok(n) if n > 0 => bytes.extend_from_slice(&piece[..n]),
            _ => return None,
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    let length = text
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
    while bytes.len() < head + length {
        match client.read(&mut piece) {
            Ok(n) if n > 0 => bytes.extend_from_slice(&piece[..n]),
            _ => return None,
        }
    }
    // `Connection` is not signed, so it may be added
    let line = bytes.windows(2).position(|two| two == b"\r\n").unwrap() + 2;
    let mut sent = bytes[..line].to_vec();
    sent.extend_from_slice(b"connection: close\r\n");
    sent.extend_from_slice(&bytes[line..]);
    Some(sent)
}

fn answer(client: &mut TcpStream, request: &[u8], upstream: &str, mischief: Option<Mischief>) {
    let error = |status: &str, code: &str| {
        let body = format!("<Error><Code>{code}</Code><Message>words</Message></Error>");
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
            .into_bytes()
    };
    let answer = match mischief {
        Some(Mischief::Reset) => return,
        Some(Mischief::SlowDown) => error("503 Service Unavailable", "SlowDown"),
        Some(Mischief::InternalError) => error("500 Internal Server Error", "InternalError"),
        Some(Mischief::Forbidden) => error("403 Forbidden", "AccessDenied"),
        Some(Mischief::NoBucket) => error("404 Not Found", "NoSuchBucket"),
        _ => forward(request, upstream),
    };
    let half = answer.len().saturating_sub(100);
    match mischief {
        Some(Mischief::ResetAfter) => {}
        // until the client has had enough
        Some(Mischief::Silence) => _ = client.read(&mut [0]),
        Some(Mischief::Truncate) => _ = client.write_all(&answer[..half]),
        Some(Mischief::Stall) => {
            _ = client.write_all(&answer[..half]);
            // until the client has had enough
            _ = client.read(&mut [0]);
        }
        Some(Mischief::Replace) => {
            let mut other = answer;
            let at = other.windows(6).position(|six| six.eq_ignore_ascii_case(b"etag: ")).unwrap() + 8;
            other[at] = if other[at] == b'0' { b'1' } else { b'0' };
            *other.last_mut().unwrap() ^= 1;
            _ = client.write_all(&other);
        }
        _ => _ = client.write_all(&answer),
    }
}

impl Proxy {
    /// In front of `server`: the first `times` requests of `method` for a pack go wrong.
    #[expect(clippy::disallowed_methods, reason = "a server of raw sockets, joined when it is dropped")]
    fn start(server: &Server, method: &'static str, mischief: Mischief, times: usize) -> Self {
        let upstream = server.endpoint.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (stop, struck) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&struck));
        let serve = move || {
            let mut connections = Vec::new();
            for client in listener.incoming() {
                if stopped.load(SeqCst) {
                    break;
                }
                let (mut client, upstream, count) = (client.unwrap(), upstream.clone(), Arc::clone(&count));
                let serve = move || {
                    let Some(request) = request(&mut client) else { return };
                    let pack = request.starts_with(method.as_bytes())
                        && !String::from_utf8_lossy(&request[..200]).contains("/lease");
                    let strikes = pack && count.fetch_add(1, SeqCst) < times;
                    answer(&mut client, &request, &upstream, strikes.then_some(mischief));
                };
                connections.push(Builder::new().spawn(serve).unwrap());
            }
            connections.into_iter().for_each(|connection| connection.join().unwrap());
        };
        let thread = Some(Builder::new().spawn(serve).unwrap());
        Proxy { endpoint, stop, struck, thread }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        _ = TcpStream::connect(self.endpoint.strip_prefix("http://").unwrap());
        if self.thread.take().unwrap().join().is_err() && !std::thread::panicking() {
            panic!("the proxy failed");
        }
    }
}

/// Only where no answer comes is a try given up in good time: one that is merely slow must not be made again.
fn objects(endpoint: &str, mischief: Mischief) -> Blocking<Objects<u64>> {
    let silent = matches!(mischief, Mischief::Stall | Mischief::Silence);
    let try_timeout = Duration::from_secs(if silent { 5 } else { 60 });
    let config = ObjectsConfig::new(store(endpoint, "p")).try_timeout(try_timeout);
    Objects::blocking(config.deadline(Duration::from_secs(120))).unwrap()
}

#[test]
fn reads_survive_what_breaks_on_the_wire() {
    let server = Server::start();
    for mischief in [
        Mischief::Reset,
        Mischief::ResetAfter,
        Mischief::SlowDown,
        Mischief::InternalError,
        Mischief::Truncate,
        Mischief::Stall,
        Mischief::Silence,
    ] {
        let proxy = Proxy::start(&server, "GET", mischief, 2);
        let objects = objects(&proxy.endpoint, mischief);
        objects.insert(1, value(1, 5000)).unwrap();
        objects.flush().unwrap();
        assert_eq!(objects.get(&1).unwrap(), Some(value(1, 5000)), "{mischief:?}");
        assert!(proxy.struck.load(SeqCst) > 2, "{mischief:?}");
        objects.close().unwrap();
    }
}

#[test]
fn writes_survive_what_breaks_on_the_wire() {
    let server = Server::start();
    for mischief in [
        Mischief::Reset,
        Mischief::ResetAfter,
        Mischief::SlowDown,
        Mischief::InternalError,
        Mischief::Silence,
    ] {
        let proxy = Proxy::start(&server, "PUT", mischief, 2);
        let objects = objects(&proxy.endpoint, mischief);
        objects.insert(1, value(1, 5000)).unwrap();
        objects.flush().unwrap();
        assert_eq!(proxy.struck.load(SeqCst), 3, "{mischief:?}");
        assert_eq!(objects.get(&1).unwrap(), Some(value(1, 5000)), "{mischief:?}");
        objects.close().unwrap();
    }
}

#[test]
fn another_object_in_its_place_is_told_by_its_etag() {
    let server = Server::start();
    let proxy = Proxy::start(&server, "GET", Mischief::Replace, 1);
    let objects = objects(&proxy.endpoint, Mischief::Replace);
    objects.insert(1, value(1, 5000)).unwrap();
    objects.flush().unwrap();
    let error = objects.get(&1).unwrap_err();
    let ErrorKind::Backend { location, status, transient, .. } = error.kind() else { panic!("{error:?}") };
    assert!(location.starts_with("s3://") && status.contains("another ETag") && !transient, "{error}");
    assert_eq!(objects.get(&1).unwrap(), Some(value(1, 5000)), "it was only the answer");
    objects.close().unwrap();
}

#[test]
fn what_will_not_pass_is_told_at_once_and_the_value_is_kept() {
    let server = Server::start();
    for (mischief, code) in [(Mischief::Forbidden, "AccessDenied"), (Mischief::NoBucket, "NoSuchBucket")] {
        for method in ["PUT", "GET"] {
            let proxy = Proxy::start(&server, method, mischief, 1);
            let objects = objects(&proxy.endpoint, mischief);
            objects.insert(1, value(1, 5000)).unwrap();
            let failed = if method == "PUT" {
                let failed = objects.flush().unwrap_err();
                assert_eq!(objects.get(&1).unwrap(), Some(value(1, 5000)), "it is still served");
                objects.flush().unwrap();
                failed
            } else {
                objects.flush().unwrap();
                objects.get(&1).unwrap_err()
            };
            let ErrorKind::Backend { location, status, transient, .. } = failed.kind() else {
                panic!("{failed:?}")
            };
            assert!(location.starts_with(&format!("s3://{BUCKET}/p/overspill-")), "{failed}");
            assert!(status.contains(code) && !transient, "{failed}");
            assert_eq!(objects.get(&1).unwrap(), Some(value(1, 5000)), "{method} {mischief:?}");
            objects.close().unwrap();
        }
    }
}

#[test]
fn a_host_that_does_not_exist_is_told_after_the_deadline() {
    let place = store("http://no-such-host.invalid", "p").under(Path::from("p"));
    let config = ObjectsConfig::new(place).deadline(Duration::from_millis(200));
    let objects: Blocking<Objects<u64>> = Objects::blocking(config).unwrap();
    objects.insert(1, value(1, 100)).unwrap();
    let error = objects.flush().unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("s3://"), "{error}");
    assert_eq!(objects.get(&1).unwrap(), Some(value(1, 100)), "it is still served");
    objects.remove(&1).unwrap();
}
