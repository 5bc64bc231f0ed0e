//! Who may ask: by a name that is ours, from our own page or from no page at all, and to read only.

use std::net::IpAddr;

use axum::http::header::{CONTENT_LENGTH, HOST, ORIGIN, TRANSFER_ENCODING};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

/// Where the page may load from, and what it may do: everything from here, nothing else, and no text can become
/// a script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// Headers of every answer.
pub(crate) const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

/// By which names the server may be called.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// Whether it listens to other machines.
    pub(crate) public: bool,
    /// Names given by whoever started it.
    pub(crate) allowed: Vec<String>,
}

impl Names {
    /// Whether a `Host` header names this server. A page of a foreign name that resolves to our address sends
    /// that name; addresses cannot be forged that way. The port may be that of a tunnel.
    fn has(&self, host: &str) -> bool {
        let name = name_of(host);
        if name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        match bare.parse::<IpAddr>() {
            Ok(address) if self.public || address.is_loopback() => true,
            _ => self.allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(name)),
        }
    }

    /// Refuses what does not come from somebody who may ask: the status, and why.
    pub(crate) fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut hosts = headers.get_all(HOST).iter();
        let host = match (hosts.next().and_then(text), hosts.next()) {
            (Some(host), None) if self.has(host) => host,
            _ => {
                return Err(Refusal(
                    StatusCode::MISDIRECTED_REQUEST,
                    "this server is not called by that name; if it should be, start it with --allow-host NAME",
                ));
            }
        };
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "everything here is read-only"));
        }
        let foreign = headers.get_all(ORIGIN).iter().any(|origin| {
            let host_of = |origin: &str| origin.split_once("://").map(|(_, host)| host.to_owned());
            text(origin).and_then(host_of).is_none_or(|origin| !origin.eq_ignore_ascii_case(host))
        });
        let site = headers.get("sec-fetch-site").and_then(text);
        // Following a link to the page is no request of the other site's script.
        let link = path == "/" && headers.get("sec-fetch-mode").and_then(text) == Some("navigate");
        if foreign || !(link || matches!(site, None | Some("same-origin" | "none"))) {
            return Err(Refusal(StatusCode::FORBIDDEN, "pages of other sites may not read this"));
        }
        let empty = headers.get(CONTENT_LENGTH).is_none_or(|length| length.as_bytes() == b"0");
        if !empty || headers.contains_key(TRANSFER_ENCODING) {
            return Err(Refusal(StatusCode::PAYLOAD_TOO_LARGE, "requests have no body here"));
        }
        Ok(())
    }
}

/// Why a request is not answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) StatusCode, pub(crate) &'static str);

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

/// A host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') && port.bytes().all(|c| c.is_ascii_digit()) => {
            // The last part of an address without brackets is no port.
            if name.contains(':') && !name.ends_with(']') { host } else { name }
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(public: bool) -> Names {
        Names { public, allowed: vec!["node7.example".to_owned()] }
    }

    fn check(public: bool, headers: &[(&'static str, &'static str)]) -> Result<(), StatusCode> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        names(public).check(&Method::GET, "/api/v1/state", &map).map_err(|refusal| refusal.0)
    }

    #[test]
    fn only_own_names_are_served() {
        for host in ["localhost:8787", "LOCALHOST", "127.0.0.1:9000", "[::1]:8787", "node7.example:80"] {
            assert_eq!(check(false, &[("host", host)]), Ok(()), "{host}");
        }
        let refused = Err(StatusCode::MISDIRECTED_REQUEST);
        for host in
            ["evil.example", "evil.example:8787", "localhost.evil.example", "127.0.0.1.evil.example", ""]
        {
            assert_eq!(check(false, &[("host", host)]), refused, "{host}");
            assert_eq!(check(true, &[("host", host)]), refused, "{host}");
        }
        assert_eq!(check(false, &[("host", "192.168.0.7:8787")]), refused);
        assert_eq!(check(true, &[("host", "192.168.0.7:8787")]), Ok(()));
        assert_eq!(check(false, &[]), refused);
        assert_eq!(check(false, &[("host", "localhost"), ("host", "localhost")]), refused);
    }

    #[test]
    fn other_sites_are_refused() {
        let host = ("host", "localhost:8787");
        assert_eq!(check(false, &[host, ("origin", "http://localhost:8787")]), Ok(()));
        for origin in ["http://evil.example", "http://localhost:9999", "null"] {
            assert_eq!(check(false, &[host, ("origin", origin)]), Err(StatusCode::FORBIDDEN), "{origin}");
        }
        for site in ["cross-site", "same-site"] {
            assert_eq!(check(false, &[host, ("sec-fetch-site", site)]), Err(StatusCode::FORBIDDEN), "{site}");
        }
        assert_eq!(check(false, &[host, ("sec-fetch-site", "same-origin")]), Ok(()));
    }

    #[test]
    fn a_link_may_lead_to_the_page() {
        let mut map = HeaderMap::new();
        map.insert(HOST, HeaderValue::from_static("localhost"));
        map.insert("sec-fetch-site", HeaderValue::from_static("cross-site"));
        map.insert("sec-fetch-mode", HeaderValue::from_static("navigate"));
        assert!(names(false).check(&Method::GET, "/", &map).is_ok());
        assert!(names(false).check(&Method::GET, "/api/v1/state", &map).is_err());
    }

    #[test]
    fn nothing_can_be_sent() {
        let mut map = HeaderMap::new();
        map.insert(HOST, HeaderValue::from_static("localhost"));
        let refusal = names(false).check(&Method::POST, "/", &map).unwrap_err();
        assert_eq!(refusal.0, StatusCode::METHOD_NOT_ALLOWED);
        map.insert(CONTENT_LENGTH, HeaderValue::from_static("10"));
        let refusal = names(false).check(&Method::GET, "/", &map).unwrap_err();
        assert_eq!(refusal.0, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
