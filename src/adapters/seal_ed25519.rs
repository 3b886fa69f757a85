//! Certificates signed with Ed25519 (RFC 8032) by `ring`, which the TLS stack brings along.
//!
//! Owns the key file and the list of trusted keys; does not know what is signed. The file holds the
//! 32 bytes of the seed as hexadecimal and is readable by its owner alone.

use actors::ports::{Seal, SealError, Signature};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// `[certificates]`: who signs, and whose signatures count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CertificatesConfig {
    /// File of this process's signing key, made at the first start where it is missing. A process
    /// that only serves needs none.
    pub key_file: PathBuf,
    /// Public keys of others that count here, hexadecimal: on serving nodes that of the learner.
    pub trusted: Vec<String>,
}

impl Default for CertificatesConfig {
    fn default() -> Self {
        Self { key_file: ".regrade/certificates.key".into(), trusted: Vec::new() }
    }
}

/// Why there is no seal.
#[derive(Debug, thiserror::Error)]
pub enum SealFileError {
    /// The key file cannot be read or made.
    #[error("cannot use the key file {path:?} (`certificates.key_file`): {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It does not hold a key.
    #[error(
        "{0:?} (`certificates.key_file`) holds no key: expected 64 hexadecimal digits; remove it, \
         and a new one is made"
    )]
    NoKey(PathBuf),
    /// A trusted key is no key.
    #[error("`certificates.trusted` holds `{0}`: expected 64 hexadecimal digits")]
    Trusted(String),
    /// The operating system gave no randomness.
    #[error("cannot make a key: the system gives no randomness")]
    NoRandomness,
}

/// A key pair and the keys that are trusted beside it.
pub struct Ed25519Seal {
    own: Option<Ed25519KeyPair>,
    trusted: Vec<String>,
}

impl Ed25519Seal {
    /// Opens the key file, making it where it is missing.
    ///
    /// # Errors
    /// A file that cannot be read or written or holds no key, or a trusted key that is none.
    pub fn open(config: &CertificatesConfig) -> Result<Self, SealFileError> {
        let path = &config.key_file;
        let seed = match std::fs::read_to_string(path) {
            Ok(text) => seed_of(text.trim()).ok_or_else(|| SealFileError::NoKey(path.clone()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let written = write(path, &new_seed()?)
                    .map_err(|source| SealFileError::File { path: path.clone(), source })?;
                tracing::info!(?path, "made a key to sign certificates with");
                seed_of(written.trim()).ok_or_else(|| SealFileError::NoKey(path.clone()))?
            }
            Err(source) => return Err(SealFileError::File { path: path.clone(), source }),
        };
        Self::of(&seed, &config.trusted)
    }

    /// A key that lives as long as the process: where nothing else of it is kept either.
    ///
    /// # Errors
    /// No randomness, or a trusted key that is none.
    pub fn ephemeral(trusted: &[String]) -> Result<Self, SealFileError> {
        Self::of(&new_seed()?, trusted)
    }

    fn of(seed: &[u8; 32], trusted: &[String]) -> Result<Self, SealFileError> {
        let own = Ed25519KeyPair::from_seed_unchecked(seed)
            .map_err(|_| SealFileError::NoKey(PathBuf::new()))?;
        let mut keys = vec![hex(own.public_key().as_ref())];
        for key in trusted {
            let key = key.trim().to_lowercase();
            if seed_of(&key).is_none() {
                return Err(SealFileError::Trusted(key));
            }
            keys.push(key);
        }
        Ok(Self { own: Some(own), trusted: keys })
    }

    /// Knows these keys and has none of its own: for readers that verify.
    ///
    /// # Errors
    /// A key that is none.
    pub fn verifier(trusted: &[String]) -> Result<Self, SealFileError> {
        let mut keys = Vec::new();
        for key in trusted {
            let key = key.trim().to_lowercase();
            if seed_of(&key).is_none() {
                return Err(SealFileError::Trusted(key));
            }
            keys.push(key);
        }
        Ok(Self { own: None, trusted: keys })
    }

    /// The public key, hexadecimal: what other nodes list as trusted.
    pub fn public_key(&self) -> Option<String> {
        self.own.as_ref().map(|own| hex(own.public_key().as_ref()))
    }
}

impl Seal for Ed25519Seal {
    fn sign(&self, message: &[u8]) -> Result<Signature, SealError> {
        let own = self.own.as_ref().ok_or(SealError::NoKey)?;
        let signature = hex(own.sign(message).as_ref());
        Ok(Signature { key: hex(own.public_key().as_ref()), signature })
    }

    fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), SealError> {
        if !self.trusted.contains(&signature.key) {
            return Err(SealError::Untrusted(signature.key.clone()));
        }
        let key = bytes(&signature.key).ok_or(SealError::Invalid)?;
        let signed = bytes(&signature.signature).ok_or(SealError::Invalid)?;
        UnparsedPublicKey::new(&ED25519, key)
            .verify(message, &signed)
            .map_err(|_| SealError::Invalid)
    }
}

fn new_seed() -> Result<[u8; 32], SealFileError> {
    let mut seed = [0; 32];
    SystemRandom::new().fill(&mut seed).map_err(|_| SealFileError::NoRandomness)?;
    Ok(seed)
}

/// Writes a new file that its owner alone may read, complete or not at all; gives the seed that is
/// there then, which is another process's if that was first.
fn write(path: &Path, seed: &[u8; 32]) -> std::io::Result<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    // Made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(hex(seed).as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(hex(seed)),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
            std::fs::read_to_string(path)
        }
        Err(error) => Err(error.error),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

fn seed_of(text: &str) -> Option<[u8; 32]> {
    bytes(text)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    fn config(folder: &tempfile::TempDir) -> CertificatesConfig {
        CertificatesConfig { key_file: folder.path().join("a/key"), trusted: Vec::new() }
    }

    #[test]
    fn the_signature_is_that_of_rfc_8032() {
        // RFC 8032, section 7.1, test 1: the empty message.
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let seal = Ed25519Seal::of(&seed_of(seed).unwrap(), &[]).unwrap();
        let signed = seal.sign(b"").unwrap();
        let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(signed.key, key);
        assert!(signed.signature.starts_with("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974"));
        assert_eq!(seal.verify(b"", &signed), Ok(()));
        assert_eq!(seal.verify(b"x", &signed), Err(SealError::Invalid));
    }

    #[test]
    fn a_key_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = Ed25519Seal::open(&config(&folder)).unwrap();
        let again = Ed25519Seal::open(&config(&folder)).unwrap();
        assert_eq!(first.public_key(), again.public_key());
        assert_eq!(again.verify(b"m", &first.sign(b"m").unwrap()), Ok(()));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(config(&folder).key_file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn only_trusted_keys_count() {
        let folder = tempfile::tempdir().unwrap();
        let learner = Ed25519Seal::open(&config(&folder)).unwrap();
        let signed = learner.sign(b"m").unwrap();
        let stranger = Ed25519Seal::ephemeral(&[]).unwrap();
        assert_eq!(stranger.verify(b"m", &signed), Err(SealError::Untrusted(signed.key.clone())));
        let serving = Ed25519Seal::verifier(&[learner.public_key().unwrap()]).unwrap();
        assert_eq!(serving.verify(b"m", &signed), Ok(()));
        assert_eq!(serving.sign(b"m"), Err(SealError::NoKey));
    }

    #[test]
    fn what_is_no_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "short").unwrap();
        let config = CertificatesConfig { key_file: path, trusted: Vec::new() };
        let said = Ed25519Seal::open(&config).err().unwrap().to_string();
        assert!(said.contains("64 hexadecimal digits"), "{said}");
        let said = Ed25519Seal::verifier(&["zz".to_owned()]).err().unwrap().to_string();
        assert!(said.contains("`zz`"), "{said}");
    }
}
