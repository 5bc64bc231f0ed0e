use std::sync::Arc;

use overspill::dashboard::Dashboard;
use overspill::worker::{Settings, Worker};

#[test]
fn dashboard_brings_a_page_over_a_worker() {
    let worker = Worker::builder(Settings::default()).control_socket(false).start().unwrap();
    let dashboard = Dashboard::builder(Arc::new(worker)).address(([127, 0, 0, 1], 0).into()).start().unwrap();
    assert!(dashboard.url().starts_with("http://127.0.0.1:"));
}
