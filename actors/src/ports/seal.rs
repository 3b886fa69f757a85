//! What signs certificates, and knows whose signatures count.

/// A signature and the public key that it fits, both hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Public key.
    pub key: String,
    /// Signature.
    pub signature: String,
}

/// Why there is no signature, or why one does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// This process has no key to sign with.
    #[error("this process has no signing key: set `certificates.key_file`")]
    NoKey,
    /// Nobody here trusts the key.
    #[error("key {0} is not trusted here: add it to `certificates.trusted` if it is one of yours")]
    Untrusted(String),
    /// The signature is not that of the key over these bytes.
    #[error("the signature does not fit the claims")]
    Invalid,
}

/// Signs and checks.
pub trait Seal: Send + Sync {
    /// Signs bytes with this process's key.
    ///
    /// # Errors
    /// There is none.
    fn sign(&self, message: &[u8]) -> Result<Signature, SealError>;

    /// Checks that a trusted key signed these bytes.
    ///
    /// # Errors
    /// The key is not trusted, or the signature does not fit.
    fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), SealError>;
}
