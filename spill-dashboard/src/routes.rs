//! What is found at which path.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::{Semaphore, watch};

use crate::collect::{Collector, json};
use crate::guard::{HEADERS, Names, Refusal};
use crate::metrics;
use crate::model::schema;
use crate::stream::stream;

const JSON: &str = "application/json";

/// The page, as `web/` is built into `page/`.
const PAGE: [(&str, &str, &[u8]); 4] = [
    ("/", "text/html; charset=utf-8", include_bytes!("../page/index.html")),
    ("/page.js", "text/javascript; charset=utf-8", include_bytes!("../page/page.js")),
    ("/page.css", "text/css; charset=utf-8", include_bytes!("../page/page.css")),
    ("/icon.svg", "image/svg+xml", include_bytes!("../page/icon.svg")),
];

/// What the routes use.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) collector: Arc<Collector>,
    pub(crate) ticks: watch::Receiver<u64>,
    pub(crate) pages: Arc<Semaphore>,
    pub(crate) names: Arc<Names>,
}

pub(crate) fn router(served: Served) -> Router {
    let mut router = Router::new()
        .route("/api/v1/state", get(state))
        .route("/api/v1/schema", get(|| async { answer(JSON, json(&schema())) }))
        .route("/api/v1/history", get(history))
        .route("/api/v1/stream", get(events))
        .route("/metrics", get(metrics));
    for (path, kind, bytes) in PAGE {
        router = router.route(path, get(move || async move { answer(kind, Bytes::from_static(bytes)) }));
    }
    router
        .fallback(|| async { refuse(&Refusal(StatusCode::NOT_FOUND, "nothing is here; the page is at /")) })
        .layer(middleware::from_fn_with_state(Arc::clone(&served.names), guard))
        .with_state(served)
}

/// Before and after every route.
async fn guard(State(names): State<Arc<Names>>, request: Request, next: Next) -> Response {
    let mut response = match names.check(request.method(), request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refuse(&refusal),
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn answer(kind: &'static str, body: Bytes) -> Response {
    ([(CONTENT_TYPE, kind)], body).into_response()
}

fn refuse(refusal: &Refusal) -> Response {
    (refusal.0, [(CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{}\n", refusal.1)).into_response()
}

async fn state(State(served): State<Served>) -> Response {
    answer(JSON, served.collector.last().json())
}

async fn metrics(State(served): State<Served>) -> Response {
    answer("text/plain; version=0.0.4; charset=utf-8", metrics::text(&served.collector.last()).into())
}

#[derive(Deserialize)]
struct Of {
    worker: Option<String>,
}

async fn history(State(served): State<Served>, Query(of): Query<Of>) -> Response {
    match served.collector.history(of.worker.as_deref()) {
        Some(history) => answer(JSON, json(&history)),
        None => refuse(&Refusal(StatusCode::NOT_FOUND, "no worker has that name; /api/v1/state lists them")),
    }
}

async fn events(State(served): State<Served>) -> Response {
    match Arc::clone(&served.pages).try_acquire_owned() {
        Ok(page) => stream(served.collector, served.ticks, page),
        Err(_) => refuse(&Refusal(StatusCode::SERVICE_UNAVAILABLE, "too many pages are open")),
    }
}
