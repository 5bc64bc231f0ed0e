//! Who is refused.

use crate::common::{ask, builder, get};

#[test]
fn foreign_names_and_other_sites_are_refused_and_told_why() {
    let dashboard = builder().allow_host("cluster.example").start().unwrap();
    for (headers, status) in [
        ("Host: evil.example\r\n", 421),
        ("Host: cluster.example\r\n", 200),
        ("Origin: http://evil.example\r\n", 403),
        ("Sec-Fetch-Site: cross-site\r\n", 403),
        ("Sec-Fetch-Site: same-origin\r\n", 200),
    ] {
        for path in ["/api/v1/state", "/metrics", "/api/v1/stream?x", "/page.js"] {
            if path.starts_with("/api/v1/stream") && status == 200 {
                continue; // never ends
            }
            let answer = ask(&dashboard, &format!("GET {path}"), headers);
            assert_eq!(answer.status, status, "{path} {headers}");
            if status != 200 {
                assert!(!answer.body.contains("workers\""), "{}", answer.body);
                assert!(answer.body.len() > 20, "says why");
            }
        }
    }
}

#[test]
fn every_answer_has_a_strict_policy_and_none_may_be_shared() {
    let dashboard = builder().start().unwrap();
    for answer in [
        get(&dashboard, "/"),
        get(&dashboard, "/api/v1/state"),
        get(&dashboard, "/nothing"),
        ask(&dashboard, "GET /", "Host: evil.example\r\n"),
    ] {
        assert!(answer.headers.contains("content-security-policy: default-src 'none'; script-src 'self'"));
        assert!(answer.headers.contains("frame-ancestors 'none'"));
        assert!(answer.headers.contains("x-content-type-options: nosniff"));
        assert!(!answer.headers.contains("access-control-allow"), "{}", answer.headers);
    }
}

#[test]
fn nothing_can_be_changed() {
    let dashboard = builder().start().unwrap();
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        assert_eq!(ask(&dashboard, &format!("{method} /api/v1/state"), "").status, 405, "{method}");
    }
}

#[test]
fn what_is_too_large_is_refused() {
    let dashboard = builder().start().unwrap();
    assert_eq!(ask(&dashboard, "GET /", "Content-Length: 1000000000\r\n").status, 413);
    let header = format!("X: {}\r\n", "x".repeat(60_000));
    assert_eq!(ask(&dashboard, "GET /", &header).status, 431);
    assert_eq!(ask(&dashboard, "GET /", &"A: b\r\n".repeat(200)).status, 431);
    assert_eq!(ask(&dashboard, &format!("GET /{}", "x".repeat(60_000)), "").status, 431);
    assert_eq!(get(&dashboard, "/api/v1/state").status, 200);
}
