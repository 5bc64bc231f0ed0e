//! Which store, and where in it.

use std::fmt;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreScheme};
use spill_core::{Error, Result};
use url::Url;

use crate::failure::redacted;

/// An object store and the prefix in it that values are kept under.
///
/// | URL | store | feature |
/// |---|---|---|
/// | `s3://bucket/prefix` | Amazon S3, and what speaks its protocol | `aws` |
/// | `gs://bucket/prefix` | Google Cloud Storage | `gcp` |
/// | `az://container/prefix` | Azure Blob Storage | `azure` |
/// | `file:///directory` | a directory, which is made if it is missing | |
/// | `memory:///prefix` | this process; every `open` is a store of its own | |
///
/// Cloning shares the connections. `Debug` and `Display` show the URL without a query or a user, and nothing of
/// the options, which hold secrets.
///
/// ```
/// use spill_object::Store;
///
/// assert_eq!(Store::open("memory:///some/prefix")?.to_string(), "memory:///some/prefix");
/// # Ok::<_, spill_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Store {
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// Uploads in parts, where the store has them.
    pub(crate) parts: Option<Arc<dyn MultipartStore>>,
    pub(crate) prefix: Path,
    root: Arc<str>,
}

impl Store {
    /// The store at `url`. Credentials, endpoint, region and path style come from the environment: the variables
    /// that begin with `AWS_`, `GOOGLE_` or `AZURE_`, or what the machine itself is granted.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn open(url: &str) -> Result<Self> {
        Self::open_with(url, &[])
    }

    /// The store at `url`, with `options` beside and before the environment. They are named as the variables are,
    /// in lower case: `aws_access_key_id`, `aws_secret_access_key`, `aws_endpoint`, `aws_region`,
    /// `aws_virtual_hosted_style_request`, `aws_allow_http`; all that the crate `object_store` knows can be
    /// given. An endpoint that begins with `http://` needs no `allow_http`.
    ///
    /// No request is made, so wrong credentials show with the first one.
    ///
    /// # Errors
    /// [`Config`](spill_core::ErrorKind::Config) for a URL or option that is not understood, or whose feature is not
    /// compiled in; [`Io`](spill_core::ErrorKind::Io) for a directory that cannot be made.
    pub fn open_with(url: &str, options: &[(&str, &str)]) -> Result<Self> {
        let expected = "s3://bucket/prefix, gs://, az://, file:///directory or memory:///prefix";
        let refused = || Error::config("url", redacted(url), expected);
        let parsed = Url::parse(url).map_err(|_| refused())?;
        let (scheme, prefix) = ObjectStoreScheme::parse(&parsed).map_err(|_| refused())?;
        match scheme {
            ObjectStoreScheme::Memory => {
                none_fits(options)?;
                Ok(Self::with_parts(Arc::new(InMemory::new()), "memory://").under(prefix))
            }
            ObjectStoreScheme::Local => {
                none_fits(options)?;
                let directory = parsed.to_file_path().map_err(|()| refused())?;
                std::fs::create_dir_all(&directory)
                    .map_err(|source| Error::io("create the directory", &directory, source))?;
                let store = LocalFileSystem::new_with_prefix(&directory).map_err(|_| refused())?;
                let root = format!("file://{}", directory.display());
                Ok(Self::of(Arc::new(store.with_automatic_cleanup(true)), &root))
            }
            ObjectStoreScheme::AmazonS3 => amazon(&parsed, options).map(|store| store.under(prefix)),
            ObjectStoreScheme::GoogleCloudStorage => {
                google(&parsed, options).map(|store| store.under(prefix))
            }
            ObjectStoreScheme::MicrosoftAzure => azure(&parsed, options).map(|store| store.under(prefix)),
            _ => Err(refused()),
        }
    }

    /// A store made elsewhere, which `name` stands for in messages. Large values are put as one object in one
    /// request; where it also is a [`MultipartStore`], [`with_parts`](Self::with_parts) does better. Its own retries,
    /// if any, come before those made here.
    pub fn of(store: Arc<dyn ObjectStore>, name: &str) -> Self {
        // the slashes of a scheme without a host are no separator to trim
        let name = if name.ends_with("://") { name } else { name.trim_end_matches('/') };
        let root = redacted(name).into();
        Store { objects: store, parts: None, prefix: Path::default(), root }
    }

    /// As [`of`](Self::of), with large values uploaded in parts.
    pub fn with_parts<S: ObjectStore + MultipartStore>(store: Arc<S>, name: &str) -> Self {
        Store { parts: Some(Arc::clone(&store) as _), ..Self::of(store, name) }
    }

    /// The same store, with values kept under another prefix.
    #[must_use]
    pub fn under(self, prefix: Path) -> Self {
        Store { prefix, ..self }
    }

    /// What a message calls this object.
    pub(crate) fn location(&self, path: &Path) -> String {
        format!("{}/{path}", self.root)
    }

    /// An object or folder below the prefix.
    pub(crate) fn path(&self, below: &str) -> Path {
        below.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.location(&self.prefix))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.to_string()).finish()
    }
}

/// Stores that take no option refuse all.
fn none_fits(options: &[(&str, &str)]) -> Result<()> {
    options.first().map_or(Ok(()), |(key, _)| Err(unknown(key)))
}

/// The value is left out: it may be a secret.
fn unknown(key: &str) -> Error {
    Error::config(key, "(not shown)", "an option that this kind of store has")
}

/// Whatever its builder says is wrong.
#[cfg(any(feature = "aws", feature = "gcp", feature = "azure"))]
fn unusable(url: &Url, error: object_store::Error) -> Error {
    let failure = crate::failure::Failure::from(error);
    Error::config("url", redacted(url.as_str()), format!("a usable store ({})", failure.status))
}

/// A store of one of the clouds. Retries and time limits are [`crate::retry`]'s.
#[cfg(any(feature = "aws", feature = "gcp", feature = "azure"))]
macro_rules! cloud {
    ($builder:ty, $key:ty, $url:expr, $options:expr) => {{
        use object_store::{BackoffConfig, ClientConfigKey, RetryConfig};
        let once =
            RetryConfig { max_retries: 0, backoff: BackoffConfig::default(), ..RetryConfig::default() };
        let timeout = <$key>::Client(ClientConfigKey::Timeout);
        let mut builder =
            <$builder>::from_env().with_url($url.as_str()).with_retry(once).with_config(timeout, "1 day");
        for (key, value) in $options {
            let parsed: $key = key.to_ascii_lowercase().parse().map_err(|_| unknown(key))?;
            builder = builder.with_config(parsed, *value);
        }
        builder
    }};
}

/// Host and scheme, for messages.
#[cfg(any(feature = "aws", feature = "gcp", feature = "azure"))]
fn root(url: &Url) -> String {
    format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default())
}

#[cfg(feature = "aws")]
fn amazon(url: &Url, options: &[(&str, &str)]) -> Result<Store> {
    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
    let mut builder = cloud!(AmazonS3Builder, AmazonS3ConfigKey, url, options);
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        builder = builder.with_allow_http(true);
    }
    let store = builder.build().map_err(|error| unusable(url, error))?;
    Ok(Store::with_parts(Arc::new(store), &root(url)))
}

#[cfg(feature = "gcp")]
fn google(url: &Url, options: &[(&str, &str)]) -> Result<Store> {
    use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
    let builder = cloud!(GoogleCloudStorageBuilder, GoogleConfigKey, url, options);
    let store = builder.build().map_err(|error| unusable(url, error))?;
    Ok(Store::with_parts(Arc::new(store), &root(url)))
}

#[cfg(feature = "azure")]
fn azure(url: &Url, options: &[(&str, &str)]) -> Result<Store> {
    use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
    let builder = cloud!(MicrosoftAzureBuilder, AzureConfigKey, url, options);
    let store = builder.build().map_err(|error| unusable(url, error))?;
    Ok(Store::with_parts(Arc::new(store), &root(url)))
}

#[cfg(not(all(feature = "aws", feature = "gcp", feature = "azure")))]
fn not_compiled(url: &Url, feature: &str) -> Error {
    Error::config("url", redacted(url.as_str()), format!("a build with the feature `{feature}`"))
}

#[cfg(not(feature = "aws"))]
fn amazon(url: &Url, _options: &[(&str, &str)]) -> Result<Store> {
    Err(not_compiled(url, "aws"))
}

#[cfg(not(feature = "gcp"))]
fn google(url: &Url, _options: &[(&str, &str)]) -> Result<Store> {
    Err(not_compiled(url, "gcp"))
}

#[cfg(not(feature = "azure"))]
fn azure(url: &Url, _options: &[(&str, &str)]) -> Result<Store> {
    Err(not_compiled(url, "azure"))
}
