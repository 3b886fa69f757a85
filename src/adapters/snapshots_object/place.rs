//! Where snapshots lie: a folder, or a bucket of S3, Google Cloud Storage or Azure by URL.
//!
//! Owns which URLs and options are understood, that credentials come from the environment only, and
//! the bounds of every request. Knows nothing of versions and manifests.

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreScheme, RetryConfig, local, memory,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Names of environment variables that hold credentials and places of a cloud start so.
const ENV_PREFIXES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// Bounds of the requests to a store of objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotLimits {
    /// Repetitions of a request that failed in passing (no connection, 429, 5xx); 0: none.
    pub retries_max: usize,
    /// No repetition begins later than this after the first try, milliseconds, 1 to 300,000:
    /// signatures of requests run out after that.
    pub retry_timeout_ms: u64,
    /// Pause before the first repetition, milliseconds, ≥ 1; doubled each time, with jitter.
    pub backoff_ms: u64,
    /// Longest pause, milliseconds, ≥ `backoff_ms`.
    pub backoff_max_ms: u64,
    /// Longest single request with its body, milliseconds, ≥ 1.
    pub request_timeout_ms: u64,
    /// Longest wait for a connection, milliseconds, ≥ 1.
    pub connect_timeout_ms: u64,
}

impl Default for SnapshotLimits {
    fn default() -> Self {
        Self {
            retries_max: 5,
            retry_timeout_ms: 20_000,
            backoff_ms: 100,
            backoff_max_ms: 2_000,
            request_timeout_ms: 20_000,
            connect_timeout_ms: 5_000,
        }
    }
}

impl SnapshotLimits {
    /// Checks every value.
    ///
    /// # Errors
    /// The first field that is wrong, and what it may be.
    pub fn validate(&self) -> Result<(), (&'static str, &'static str)> {
        let positive = [
            ("backoff_ms", self.backoff_ms),
            ("request_timeout_ms", self.request_timeout_ms),
            ("connect_timeout_ms", self.connect_timeout_ms),
        ];
        if let Some((field, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err((field, "a number above 0"));
        }
        if !(1..=300_000).contains(&self.retry_timeout_ms) {
            return Err(("retry_timeout_ms", "a number from 1 to 300000"));
        }
        if self.backoff_max_ms < self.backoff_ms {
            return Err(("backoff_max_ms", "at least `backoff_ms`"));
        }
        Ok(())
    }

    fn retry(&self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(self.backoff_ms),
                max_backoff: Duration::from_millis(self.backoff_max_ms),
                base: 2.0,
            },
            max_retries: self.retries_max,
            retry_timeout: Duration::from_millis(self.retry_timeout_ms),
        }
    }

    fn client(&self) -> ClientOptions {
        ClientOptions::new()
            .with_timeout(Duration::from_millis(self.request_timeout_ms))
            .with_connect_timeout(Duration::from_millis(self.connect_timeout_ms))
    }
}

/// Options of a store by name, as `object_store` calls them: `endpoint`, `region`, `allow_http`, …
/// Values are text; `true` and `3` may be written without quotes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct StoreOptions(pub BTreeMap<String, String>);

impl<'de> Deserialize<'de> for StoreOptions {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected text, true, false or a whole number")]
        enum Scalar {
            Text(String),
            Flag(bool),
            Number(i64),
        }
        let scalars = BTreeMap::<String, Scalar>::deserialize(deserializer)?;
        let text = |(key, value)| {
            let text = match value {
                Scalar::Text(text) => text,
                Scalar::Flag(flag) => flag.to_string(),
                Scalar::Number(number) => number.to_string(),
            };
            (key, text)
        };
        Ok(Self(scalars.into_iter().map(text).collect()))
    }
}

/// Why a place cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// The URL is none, or of no known kind.
    #[error(
        "`{url}`: {reason}; expected a folder, `memory:`, file:///folder, s3://bucket/prefix, \
         gs://bucket/prefix, az://container/prefix or an https URL of S3, R2 or Azure"
    )]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A credential where everybody can read it. The message does not repeat the value.
    #[error("`{key}` is a credential: give it in the environment as `{variable}`, never in a file")]
    Secret {
        /// The option, or `url`.
        key: String,
        /// The environment variable for it.
        variable: String,
    },
    /// No store of this kind has such an option.
    #[error("{kind} has no option `{key}`")]
    Option {
        /// The option.
        key: String,
        /// What the URL names.
        kind: &'static str,
    },
    /// The options contradict one another or lack something.
    #[error("cannot open `{url}`: {reason}")]
    Unusable {
        /// The URL.
        url: String,
        /// What the store says.
        reason: String,
    },
}

/// The variables of this process that stores read credentials and places from.
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| ENV_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        .collect()
}

/// Checks a URL and its options without touching any store: what `regrade check` does.
///
/// # Errors
/// See [`PlaceError`].
pub fn check(url: &str, options: &StoreOptions) -> Result<(), PlaceError> {
    if !url.contains("://") {
        return match options.0.keys().next() {
            None => Ok(()),
            Some(key) => Err(no_option("a folder", key)),
        };
    }
    let (parsed, scheme, _) = parse(url)?;
    match scheme {
        ObjectStoreScheme::AmazonS3 => s3_options(options).map(drop),
        ObjectStoreScheme::GoogleCloudStorage => google_options(options).map(drop),
        ObjectStoreScheme::MicrosoftAzure => azure_options(options).map(drop),
        ObjectStoreScheme::Local | ObjectStoreScheme::Memory => {
            options.0.keys().next().map_or(Ok(()), |key| Err(no_option("a folder", key)))
        }
        _ => Err(bad_url(parsed.as_str(), "it names no store that this build knows")),
    }
}

/// Opens the store at a URL: options over the environment over the store's defaults.
///
/// # Errors
/// See [`PlaceError`].
pub(super) fn open(
    url: &str,
    options: &StoreOptions,
    limits: &SnapshotLimits,
    environment: &[(String, String)],
) -> Result<(Arc<dyn ObjectStore>, Path), PlaceError> {
    check(url, options)?;
    let (parsed, scheme, path) = parse(url)?;
    let (retry, client) = (limits.retry(), limits.client());
    let unusable = |error: object_store::Error| PlaceError::Unusable {
        url: url.to_owned(),
        reason: error.to_string(),
    };
    let store: Arc<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::AmazonS3 => {
            let builder = AmazonS3Builder::new().with_retry(retry).with_client_options(client);
            let settings = variables(environment, "AWS_").chain(s3_options(options)?);
            let builder = settings.fold(builder, |b, (key, value)| b.with_config(key, value));
            Arc::new(builder.with_url(parsed).build().map_err(unusable)?)
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            let builder =
                GoogleCloudStorageBuilder::new().with_retry(retry).with_client_options(client);
            let settings = variables(environment, "GOOGLE_").chain(google_options(options)?);
            let builder = settings.fold(builder, |b, (key, value)| b.with_config(key, value));
            Arc::new(builder.with_url(parsed).build().map_err(unusable)?)
        }
        ObjectStoreScheme::MicrosoftAzure => {
            let builder =
                MicrosoftAzureBuilder::new().with_retry(retry).with_client_options(client);
            let settings = variables(environment, "AZURE_").chain(azure_options(options)?);
            let builder = settings.fold(builder, |b, (key, value)| b.with_config(key, value));
            Arc::new(builder.with_url(parsed).build().map_err(unusable)?)
        }
        ObjectStoreScheme::Memory => Arc::new(memory::InMemory::new()),
        _ => {
            let folder = parsed.to_file_path().map_err(|()| bad_url(url, "it names no folder"))?;
            std::fs::create_dir_all(&folder).map_err(|error| PlaceError::Unusable {
                url: url.to_owned(),
                reason: format!("cannot make folder `{}`: {error}", folder.display()),
            })?;
            Arc::new(local::LocalFileSystem::new())
        }
    };
    Ok((store, path))
}

fn parse(url: &str) -> Result<(Url, ObjectStoreScheme, Path), PlaceError> {
    let parsed = Url::parse(url).map_err(|error| bad_url(url, &error.to_string()))?;
    if parsed.password().is_some() || parsed.query().is_some() {
        let variable = "AWS_SECRET_ACCESS_KEY, AZURE_STORAGE_ACCOUNT_KEY, …".to_owned();
        return Err(PlaceError::Secret { key: "url".to_owned(), variable });
    }
    let (scheme, path) =
        ObjectStoreScheme::parse(&parsed).map_err(|error| bad_url(url, &error.to_string()))?;
    Ok((parsed, scheme, path))
}

fn bad_url(url: &str, reason: &str) -> PlaceError {
    PlaceError::Url { url: url.to_owned(), reason: reason.to_owned() }
}

fn no_option(kind: &'static str, key: &str) -> PlaceError {
    PlaceError::Option { key: key.to_owned(), kind }
}

/// Settings from the environment; a variable that means nothing to the store is another's.
fn variables<'a, K: FromStr + 'a>(
    environment: &'a [(String, String)],
    prefix: &'static str,
) -> impl Iterator<Item = (K, String)> + 'a {
    environment
        .iter()
        .filter(move |(name, _)| name.starts_with(prefix))
        .filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value.clone())))
}

fn s3_options(options: &StoreOptions) -> Result<Vec<(AmazonS3ConfigKey, String)>, PlaceError> {
    use AmazonS3ConfigKey as Key;
    settings(options, "S3", "AWS", |key: &Key| match key {
        Key::AccessKeyId | Key::SecretAccessKey | Key::Token => true,
        // The last of these is a key in base64.
        Key::Encryption(_) => key.as_ref().contains("customer_key"),
        _ => false,
    })
}

fn google_options(options: &StoreOptions) -> Result<Vec<(GoogleConfigKey, String)>, PlaceError> {
    use GoogleConfigKey as Key;
    settings(options, "Google Cloud Storage", "GOOGLE", |key: &Key| {
        matches!(key, Key::ServiceAccountKey | Key::BearerToken)
    })
}

fn azure_options(options: &StoreOptions) -> Result<Vec<(AzureConfigKey, String)>, PlaceError> {
    use AzureConfigKey as Key;
    settings(options, "Azure Blob Storage", "AZURE", |key: &Key| {
        matches!(
            key,
            Key::AccessKey
                | Key::ClientSecret
                | Key::SasKey
                | Key::Token
                | Key::FabricSessionToken
                | Key::EncryptionKey
        )
    })
}

fn settings<K: FromStr + AsRef<str>>(
    options: &StoreOptions,
    kind: &'static str,
    prefix: &str,
    is_secret: impl Fn(&K) -> bool,
) -> Result<Vec<(K, String)>, PlaceError> {
    let parse = |(key, value): (&String, &String)| {
        let parsed: K =
            key.to_ascii_lowercase().parse().map_err(|_| no_option(kind, key.as_str()))?;
        if is_secret(&parsed) {
            let name = parsed.as_ref().to_ascii_uppercase();
            let variable = if name.starts_with(prefix) { name } else { format!("{prefix}_{name}") };
            return Err(PlaceError::Secret { key: key.clone(), variable });
        }
        Ok((parsed, value.clone()))
    };
    options.0.iter().map(parse).collect()
}
