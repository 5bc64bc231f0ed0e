//! What a failure of an object store is to the caller: said with store, place and status, and with no secret.

use std::error::Error as StdError;

use spill_core::{Error, ErrorKind};

/// A failed request, before it is known whether it is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What the store said: a status and its code where there was an answer.
    pub(crate) status: String,
    /// Whether the same request may succeed later.
    pub(crate) transient: bool,
    /// Whether it says that the object is not there.
    pub(crate) absent: bool,
}

impl Failure {
    pub(crate) fn transient(status: impl Into<String>) -> Self {
        Failure { status: status.into(), transient: true, absent: false }
    }

    pub(crate) fn permanent(status: impl Into<String>) -> Self {
        Failure { status: status.into(), transient: false, absent: false }
    }

    /// The error that a caller is given.
    pub(crate) fn into_error(self, location: String) -> Error {
        ErrorKind::Backend { name: "object store", location, status: self.status, transient: self.transient }
            .into()
    }
}

impl From<object_store::Error> for Failure {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as E;
        let text = chain(&error);
        match &error {
            E::NotFound { .. } => Failure { absent: true, ..Failure::permanent(said(&text, "not found")) },
            E::PermissionDenied { .. } => Failure::permanent(said(&text, "permission denied")),
            E::Unauthenticated { .. } => Failure::permanent(said(&text, "not authenticated")),
            E::Precondition { .. } => Failure::permanent(said(&text, "a precondition failed")),
            E::NotSupported { .. } | E::NotImplemented { .. } => {
                Failure::permanent(said(&text, "not supported"))
            }
            E::InvalidPath { .. } | E::UnknownConfigurationKey { .. } => {
                Failure::permanent(redacted(&innermost(&error)))
            }
            // A write that conflicts with another one to the same object, such as our own that timed out.
            E::AlreadyExists { .. } => Failure::transient(said(&text, "a conflict")),
            _ => generic(&error, &text),
        }
    }
}

/// An error without a class of its own: judged by the status that was answered, or by what broke before one was.
fn generic(error: &object_store::Error, text: &str) -> Failure {
    if let Some(status) = status_code(text) {
        let code = between(text, "<Code>", "</Code>").unwrap_or_default();
        let transient = status >= 500
            || matches!(status, 408 | 429)
            || status < 300 // an error in the body of a success: S3 says InternalError or SlowDown that way
            || matches!(code, "RequestTimeout" | "RequestTimeTooSkewed" | "ExpiredToken");
        return Failure { status: said(text, "an error"), transient, absent: status == 404 };
    }
    if text.contains("error response") {
        return Failure::transient(said(text, "an error in the answer"));
    }
    let broke = is_of_the_network(error) || find::<std::io::Error>(error).is_some();
    Failure { status: redacted(&innermost(error)), transient: broke, absent: false }
}

/// Whether a request got no answer: no name, no connection, a time-out, a body cut short.
#[cfg(any(feature = "aws", feature = "gcp", feature = "azure"))]
fn is_of_the_network(error: &object_store::Error) -> bool {
    find::<object_store::client::HttpError>(error).is_some()
}

#[cfg(not(any(feature = "aws", feature = "gcp", feature = "azure")))]
fn is_of_the_network(_error: &object_store::Error) -> bool {
    false
}

/// What all errors of the chain say.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// What the last two errors of the chain say: the cause, and what it kept from being done.
fn innermost(error: &dyn StdError) -> String {
    let mut said = (String::new(), error.to_string());
    let mut source = error.source();
    while let Some(error) = source {
        said = (said.1, error.to_string());
        source = error.source();
    }
    if said.0.is_empty() || said.0.contains(&said.1) { said.1 } else { format!("{}: {}", said.0, said.1) }
}

fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        source = error.source();
    }
    None
}

const STATUS: &str = "status code: ";

fn status_code(text: &str) -> Option<u16> {
    let at = text.find(STATUS)? + STATUS.len();
    text.get(at..at + 3)?.parse().ok()
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(open)?;
    Some(rest.split_once(close)?.0)
}

/// The status line, and code and message of the answer's body. The rest of a body may repeat what was signed, so
/// it is left out. `what` where no status is known.
fn said(text: &str, what: &str) -> String {
    let status = text.find(STATUS).and_then(|at| text.get(at + STATUS.len()..));
    let mut said = match status {
        Some(rest) => rest.split([':', '\n']).next().unwrap_or(what).trim().to_owned(),
        None => what.to_owned(),
    };
    let parts = [("<Code>", "</Code>"), ("<Message>", "</Message>")];
    for part in parts.into_iter().filter_map(|(open, close)| between(text, open, close)) {
        said.push_str(": ");
        said.push_str(part);
    }
    redacted(&said)
}

/// The text without what can hold a secret: the query and the user of every URL in it.
pub(crate) fn redacted(text: &str) -> String {
    let clean = |word: &str| -> String {
        let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let host = host.rsplit('@').next().unwrap_or_default();
        format!("{scheme}://{host}{path}")
    };
    text.split(' ').map(clean).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> Failure {
        object_store::Error::Generic { store: "S3", source: text.into() }.into()
    }

    #[test]
    fn statuses_say_whether_to_try_again() {
        let answer = |status: &str, code: &str| {
            generic(&format!(
                "Error performing PUT http://h/b - Server returned non-2xx status code: {status}: \
                 <Error><Code>{code}</Code><Message>words</Message><StringToSign>secret</StringToSign></Error>"
            ))
        };
        for (status, code, transient) in [
            ("500 Internal Server Error", "InternalError", true),
            ("503 Service Unavailable", "SlowDown", true),
            ("429 Too Many Requests", "SlowDown", true),
            ("400 Bad Request", "RequestTimeout", true),
            ("400 Bad Request", "InvalidArgument", false),
            ("301 Moved Permanently", "PermanentRedirect", false),
        ] {
            let failure = answer(status, code);
            assert_eq!(failure.transient, transient, "{status}");
            assert_eq!(failure.status, format!("{status}: {code}: words"));
        }
        assert!(generic("Server returned error response: <Error><Code>SlowDown</Code></Error>").transient);
        assert!(!generic("nonsense").transient);
    }

    #[test]
    fn urls_lose_their_secrets() {
        let text = "cannot get https://user:pass@host:1/b/k?sig=secret#x now, nor https://host?sv=secret";
        assert_eq!(redacted(text), "cannot get https://host:1/b/k now, nor https://host");
        assert_eq!(redacted("plain words? yes"), "plain words? yes");
    }
}
