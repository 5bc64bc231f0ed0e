//! S3 servers on 127.0.0.1: one in this process, and one of another make.

use std::path::Path;
use std::process::{Child, Command};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use spill_object::Store;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

pub(crate) const KEY: &str = "test-key";
pub(crate) const SECRET: &str = "very-secret-indeed";

/// A bucket's name; they have three letters or more.
pub(crate) const BUCKET: &str = "spilled";

/// The store at a server's address.
pub(crate) fn store(endpoint: &str, prefix: &str) -> Store {
    let options = [
        ("aws_access_key_id", KEY),
        ("aws_secret_access_key", SECRET),
        ("aws_endpoint", endpoint),
        ("aws_region", "us-east-1"),
    ];
    Store::open_with(&format!("s3://{BUCKET}/{prefix}"), &options).unwrap()
}

/// A server in this process, stopped when it is dropped. Its objects are files of a directory that goes with it.
pub(crate) struct Server {
    /// Stops with its tasks; taken out since a runtime must not be dropped inside another.
    runtime: Mutex<Option<Runtime>>,
    pub(crate) endpoint: String,
    pub(crate) directory: TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(directory.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = builder.build();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let connections = auto::Builder::new(TokioExecutor::new());
            while let Ok((socket, _)) = listener.accept().await {
                let connection =
                    connections.serve_connection(TokioIo::new(socket), service.clone()).into_owned();
                tokio::spawn(async move { _ = connection.await });
            }
        });
        Server { runtime: Mutex::new(Some(runtime)), endpoint, directory }
    }

    /// The files of all objects, and of uploads that were not ended.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut folders = vec![self.directory.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    files.push(
                        entry.path().strip_prefix(self.directory.path()).unwrap().display().to_string(),
                    );
                }
            }
        }
        files
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.lock().unwrap().take() {
            runtime.shutdown_background();
        }
    }
}

/// The server of the Python package moto, a process of its own, stopped when it is dropped.
pub(crate) struct Moto {
    process: Child,
    pub(crate) endpoint: String,
}

/// What is installed, once, below the build's folder.
const MOTO: &str = "moto[server,s3]==5.2.5";

impl Moto {
    /// # Panics
    /// Where Python cannot install or start it.
    pub(crate) fn start() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("moto-5.2.5");
        if !folder.join("installed").exists() {
            run(Command::new("python3").arg("-m").arg("venv").arg("--clear").arg(&folder));
            run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", MOTO]));
            std::fs::write(folder.join("installed"), MOTO).unwrap();
        }
        let log = tempfile::NamedTempFile::new().unwrap();
        let out = log.reopen().unwrap();
        let mut server = Command::new(folder.join("bin/moto_server"));
        server.args(["-H", "127.0.0.1", "-p", "0"]);
        let process = server.stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        let mut moto = Moto { process, endpoint: String::new() };
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(moto.ready(log.path()));
        moto
    }

    /// Waits until it listens, at a free port that it tells in its log, then makes the bucket.
    #[expect(clippy::disallowed_methods, reason = "a generous limit for a process to start")]
    async fn ready(&mut self, log: &Path) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let start = Instant::now();
        let port = loop {
            let said = std::fs::read_to_string(log).unwrap();
            if let Some(port) = port(&said) {
                break port;
            }
            let runs = self.process.try_wait().unwrap().is_none();
            assert!(runs && start.elapsed() < Duration::from_secs(120), "moto did not start: {said}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        self.endpoint = format!("http://127.0.0.1:{port}");
        let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = format!(
            "PUT /{BUCKET} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: AWS4-HMAC-SHA256 \
             Credential={KEY}/20260101/us-east-1/s3/aws4_request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

/// The port that the server's log tells, once it is written to its end.
fn port(log: &str) -> Option<u16> {
    let (_, rest) = log.split_once("http://127.0.0.1:")?;
    let (port, _) = rest.split_once(|c: char| !c.is_ascii_digit())?;
    port.parse().ok()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Drop for Moto {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
