//! An S3 server in this process, which answers as late as one on a network does. The example runs against it where
//! it is given no other; tests and benchmarks of the workspace do too.

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

const KEY: &str = "example-key";
const SECRET: &str = "example-secret";

/// The only bucket; its objects are files of a temporary directory. It all goes when this is dropped.
pub(crate) struct Server {
    runtime: Option<Runtime>,
    endpoint: String,
    directory: TempDir,
}

impl Server {
    pub(crate) const BUCKET: &str = "spilled";

    /// Listens on a free port of 127.0.0.1. Each request waits for `latency` before the server sees it.
    pub(crate) fn start(latency: Duration) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        std::fs::create_dir(directory.path().join(Self::BUCKET))?;
        let files =
            s3s_fs::FileSystem::new(directory.path()).map_err(|e| io::Error::other(format!("{e:?}")))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = builder.build();

        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.spawn(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            let connections = auto::Builder::new(TokioExecutor::new());
            while let Ok((socket, _)) = listener.accept().await {
                _ = socket.set_nodelay(true);
                let service = service.clone();
                let late = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
                    let service = service.clone();
                    async move {
                        tokio::time::sleep(latency).await;
                        Service::call(&service, request).await
                    }
                });
                let connection = connections.serve_connection(TokioIo::new(socket), late).into_owned();
                tokio::spawn(async move { _ = connection.await });
            }
        });
        Ok(Server { runtime: Some(runtime), endpoint, directory })
    }

    /// What a client must know to use it, by the names of `object_store`; in upper case they are those of the
    /// environment's variables.
    pub(crate) fn options(&self) -> [(&'static str, &str); 4] {
        [
            ("aws_access_key_id", KEY),
            ("aws_secret_access_key", SECRET),
            ("aws_endpoint", &self.endpoint),
            ("aws_region", "us-east-1"),
        ]
    }

    /// Where the bucket's objects are files.
    pub(crate) fn folder(&self) -> PathBuf {
        self.directory.path().join(Self::BUCKET)
    }

    /// The files of all objects that there are.
    pub(crate) fn objects(&self) -> io::Result<Vec<PathBuf>> {
        let (mut objects, mut folders) = (Vec::new(), vec![self.folder()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                let is_folder = entry.file_type()?.is_dir();
                if is_folder { &mut folders } else { &mut objects }.push(entry.path());
            }
        }
        Ok(objects)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // a runtime must not be dropped inside another
            runtime.shutdown_background();
        }
    }
}
