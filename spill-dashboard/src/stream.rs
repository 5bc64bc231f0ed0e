//! Server-sent events: what is new, to each page at its own pace.

use std::convert::Infallible;
use std::sync::Arc;

use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::collect::{Collector, json};
use crate::model::{Block, History, LogEntry, VERSION};

/// The first message: what has been, so that a page begins with a past.
#[derive(Serialize)]
struct Hello {
    version: u32,
    instance: String,
    at: f64,
    history: Option<History>,
    log: Vec<LogEntry>,
    blocks: Vec<Block>,
}

/// What came since the message before.
#[derive(Serialize)]
struct News {
    log: Vec<LogEntry>,
    blocks: Vec<Block>,
}

/// How far one page is.
struct Place {
    collector: Arc<Collector>,
    ticks: watch::Receiver<u64>,
    entry: u64,
    block: u64,
    /// What is to be sent before the next tick is waited for, last first.
    next: Vec<Event>,
    /// One of so many pages; given back when the page has gone.
    _page: OwnedSemaphorePermit,
}

/// The stream of one page. A page that reads slowly misses states in between; its log and time line are whole as
/// far as the server keeps them.
pub(crate) fn stream(
    collector: Arc<Collector>,
    ticks: watch::Receiver<u64>,
    page: OwnedSemaphorePermit,
) -> Response {
    let (log, entry) = collector.log_since(0);
    let (blocks, block) = collector.blocks_since(0);
    let hello = Hello {
        version: VERSION,
        instance: collector.instance().to_owned(),
        at: collector.now(),
        history: collector.history(None),
        log,
        blocks,
    };
    let next = vec![state(&collector), event("hello", json(&hello))];
    let place = Place { collector, ticks, entry, block, next, _page: page };
    let events = unfold(place, |mut place| async {
        if place.next.is_empty() {
            place.ticks.changed().await.ok()?; // the server ends
            place.fill();
        }
        let event = place.next.pop()?;
        Some((Ok::<_, Infallible>(event), place))
    });
    Sse::new(events).into_response()
}

impl Place {
    fn fill(&mut self) {
        let (log, entry) = self.collector.log_since(self.entry);
        let (blocks, block) = self.collector.blocks_since(self.block);
        (self.entry, self.block) = (entry, block);
        self.next.push(state(&self.collector));
        if !(log.is_empty() && blocks.is_empty()) {
            self.next.push(event("news", json(&News { log, blocks })));
        }
    }
}

fn state(collector: &Collector) -> Event {
    event("state", collector.last().json())
}

fn event(name: &str, json: Bytes) -> Event {
    // JSON of serde_json has no line feed outside of strings, and escapes it within.
    Event::default().event(name).data(String::from_utf8_lossy(&json))
}
