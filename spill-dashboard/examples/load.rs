//! What a dashboard costs: 50 workers whose state changes all the time, 10 open pages, and the processor time that
//! the server's thread takes for them.
//!
//! cargo run --release -p spill-dashboard --example load -- [WORKERS] [PAGES] [SECONDS]
#![expect(clippy::disallowed_methods, reason = "pages are threads that end with the process")]

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use spill_core::{Clock, SystemClock};
use spill_dashboard::Dashboard;
use spill_worker::{
    Activity, ActivityKind, BackendState, Event, EventKind, Observe, Readings, Running, WorkerState,
};

/// Ticks of the processor time that `/proc` shows, a second.
const TICKS: f64 = 100.0;

/// Workers that do ten things and say one each second, for as long as they are kept.
struct Busy {
    clock: SystemClock,
    workers: usize,
}

impl Observe for Busy {
    fn workers(&self) -> Vec<WorkerState> {
        let now = self.clock.now().as_secs_f64();
        (0..self.workers).map(|n| worker(n, now)).collect()
    }
}

fn worker(n: usize, now: f64) -> WorkerState {
    let mut worker = WorkerState::default();
    worker.name = format!("worker-{n}");
    worker.pid = 1000 + n as u32;
    (worker.now, worker.uptime) = (now, now);
    worker.limit = Some(4 << 30);
    let managed = (1 << 30) + (now * 1e7) as u64 + n as u64;
    worker.readings = Readings {
        process: managed + (300 << 20),
        managed,
        unmanaged: 200 << 20,
        unmanaged_recent: 100 << 20,
        spilled: (now * 1e8) as u64,
    };
    let mut backend = BackendState { name: "segments".to_owned(), ..BackendState::default() };
    backend.storage.write.bytes = (now * 1e8) as u64;
    worker.backends = vec![backend];
    let last = now as u64;
    worker.events = (last.saturating_sub(99)..=last)
        .map(|number| Event {
            number,
            at: number as f64,
            kind: EventKind::Spilled,
            text: "120 values of 120.0 MiB".to_owned(),
        })
        .collect();
    let last = (now * 10.0) as u64;
    worker.activity = (last.saturating_sub(511)..=last)
        .map(|number| Activity {
            number,
            kind: if number % 2 == 0 { ActivityKind::Task } else { ActivityKind::Write },
            lane: 0,
            start: number as f64 / 10.0 - 0.1,
            end: number as f64 / 10.0,
            name: "load".to_owned(),
            count: 1,
            bytes: 1 << 20,
        })
        .collect();
    worker.running = vec![Running { lane: 0, start: now, name: "load".to_owned() }];
    worker
}

/// Reads what comes, as a page does, and counts its bytes.
fn page(address: SocketAddr, read: &AtomicU64) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET /api/v1/stream HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    loop {
        let len = reader.fill_buf()?.len();
        if len == 0 {
            return Ok(());
        }
        reader.consume(len);
        read.fetch_add(len as u64, Relaxed);
    }
}

/// Seconds that the server's thread has computed.
fn server_time() -> Result<f64, Box<dyn Error>> {
    for task in fs::read_dir("/proc/self/task")? {
        let stat = fs::read_to_string(task?.path().join("stat"))?;
        // The name is cut to 15 characters; user and system time are the 14th and 15th field.
        let (name, rest) = stat.rsplit_once(") ").ok_or("no name")?;
        if name.ends_with("(overspill-dashb") {
            let fields: Vec<&str> = rest.split(' ').collect();
            return Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / TICKS);
        }
    }
    Err("the server has no thread".into())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut numbers = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let mut next = |default| numbers.next().unwrap_or(Ok(default));
    let (workers, pages, seconds) = (next(50)?, next(10)?, next(20)?);
    let busy = Busy { clock: SystemClock::new(), workers: workers as usize };
    let dashboard = Dashboard::builder(Arc::new(busy)).address(([127, 0, 0, 1], 0).into()).start()?;
    let address = dashboard.address();
    let read = Arc::new(AtomicU64::new(0));
    for _ in 0..pages {
        let read = Arc::clone(&read);
        std::thread::spawn(move || page(address, &read));
    }
    std::thread::sleep(Duration::from_secs(2));
    let clock = SystemClock::new();
    let (before, bytes) = (server_time()?, read.load(Relaxed));
    std::thread::sleep(Duration::from_secs(seconds));
    let took = clock.now().as_secs_f64();
    let share = (server_time()? - before) / took * 100.0;
    let rate = (read.load(Relaxed) - bytes) as f64 / took / 1e6;
    println!("{workers} workers, {pages} pages: {share:.1}% of one core, {rate:.1} MB/s sent");
    Ok(())
}
