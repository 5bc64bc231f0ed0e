//! A worker that does what it is told, to see what a dashboard shows of it, and for the tests of that:
//!
//! cargo build --features cli --example driven --bin overspill
//! target/debug/overspill nanny --memory-limit 400MiB --dashboard -- target/debug/examples/driven /tmp
//! echo 'insert 300' | nc -NU /tmp/worker.sock
//!
//! It listens at NAME.sock in the directory it is given, NAME being the worker's, for lines such as `insert 100`
//! (values of so many MiB), `read` (all of them), `hold 50` (MiB beside the mapping), `free`, `task NAME SECONDS` and
//! `retire`, and answers each when it is done.
#![expect(clippy::disallowed_methods, reason = "connections and tasks end with the process")]

use std::env;
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use overspill::worker::config::{Config, Sources};
use overspill::worker::{Data, DataContext, SystemMemory, Worker};
use overspill::{
    Buffer, BufferBuilder, Frames, Func, MutableMapping, Raw, Segments, SegmentsConfig, Workspace,
};

type Failure = Box<dyn Error + Send + Sync>;
type Disk = Arc<Segments<u64>>;
type Values = Buffer<u64, Bytes, Func<u64, Bytes, Frames, Raw, Disk>>;

const MIB: usize = 1 << 20;

struct Driven {
    worker: Worker,
    values: Arc<Values>,
    held: Mutex<Vec<Vec<u8>>>,
}

fn main() -> Result<(), Failure> {
    let directory = env::args_os().nth(1).ok_or("usage: driven DIRECTORY")?;
    let settings = Config::load(&Sources::of_this_process(), &SystemMemory::read()?)?.into_settings();
    let mut made = None;
    let worker = Worker::builder(settings)
        .data(|context: &DataContext| {
            let workspace = Workspace::open(context.local_directories.first().map(|path| path.as_path()))?;
            let disk: Disk = Arc::new(Segments::open(SegmentsConfig::new(workspace))?);
            let target = context.target.unwrap_or(u64::MAX);
            let func = Func::new(Raw, Arc::clone(&disk));
            let values: Arc<Values> = Arc::new(BufferBuilder::new().target(target).over(func)?);
            made = Some(Arc::clone(&values));
            Ok(Data::evictable(&values).backend("segments", &disk))
        })?
        .retire_on_signals()
        .start()?;
    let values = made.ok_or("there is no mapping")?;
    let socket = Path::new(&directory).join(format!("{}.sock", worker.settings().name));
    let driven = Arc::new(Driven { worker, values, held: Mutex::default() });
    let _ = fs::remove_file(&socket); // that of the process before
    let listener = UnixListener::bind(&socket)?;
    let served = Arc::clone(&driven);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let driven = Arc::clone(&served);
            std::thread::spawn(move || driven.serve(&stream));
        }
    });
    driven.worker.wait(|| driven.values.clear())?;
    Ok(())
}

impl Driven {
    fn serve(self: &Arc<Self>, mut stream: &UnixStream) {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let answer = match self.run(&line) {
                Ok(()) => "done".to_owned(),
                Err(error) => format!("failed: {error}"),
            };
            if writeln!(stream, "{answer}").is_err() {
                return;
            }
        }
    }

    fn run(self: &Arc<Self>, line: &str) -> Result<(), Failure> {
        let (word, argument) = line.split_once(' ').unwrap_or((line, ""));
        let held = || self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match word {
            "insert" => {
                let first = self.values.len() as u64;
                for key in first..first + argument.parse::<u64>()? {
                    self.values.insert(key, Bytes::from(vec![key as u8; MIB]))?;
                }
            }
            "read" => {
                for key in 0..self.values.len() as u64 {
                    if self.values.get(&key)?.is_none_or(|value| value[0] != key as u8) {
                        return Err(format!("value {key} is not what it was").into());
                    }
                }
            }
            "hold" => {
                for _ in 0..argument.parse()? {
                    held().push(vec![1; MIB]);
                }
            }
            "free" => held().clear(),
            "task" => {
                let (name, seconds) = argument.rsplit_once(' ').ok_or("usage: task NAME SECONDS")?;
                let (name, time) = (name.to_owned(), Duration::try_from_secs_f64(seconds.parse()?)?);
                let driven = Arc::clone(self);
                // one that may start has done so when this is answered
                let at_once = driven.worker.gate().try_enter()?;
                std::thread::spawn(move || {
                    if let Ok(permit) = at_once.map_or_else(|| driven.worker.gate().enter(), Ok) {
                        let permit = permit.named(&name);
                        std::thread::park_timeout(time);
                        drop(permit);
                    }
                });
            }
            "retire" => self.worker.retire(),
            _ => return Err(format!("{word:?} is no command").into()),
        }
        Ok(())
    }
}
