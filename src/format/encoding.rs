//! How records become bytes (`spec/5-manifest.md`, "Encoding"). The only place that names `bincode`.
//!
//! Bincode 2's standard configuration: little-endian, variable-length integers. Decoding comes only after
//! authentication, within a limit, and is strict: all input consumed, and encoding again gives the same bytes.

use bincode::{Decode, Encode, config};

/// Why some bytes are not the encoding of a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodingError {
    /// They end too early, or a value in them is impossible.
    #[error("it cannot be decoded: {0}")]
    Malformed(String),
    /// Bytes are left over, or a value is written another way than the one right way.
    #[error("it is not written the one right way")]
    NotCanonical,
    /// The record is larger than an object may be.
    #[error("it is larger than {0} bytes")]
    TooLarge(usize),
}

/// The bytes of `record`, at most `limit` of them.
///
/// # Errors
/// [`EncodingError::TooLarge`].
pub fn encode(record: &impl Encode, limit: usize) -> Result<Vec<u8>, EncodingError> {
    let bytes =
        bincode::encode_to_vec(record, config::standard()).map_err(|e| EncodingError::Malformed(e.to_string()))?;
    if bytes.len() > limit { Err(EncodingError::TooLarge(limit)) } else { Ok(bytes) }
}

/// The record that `bytes` encode. Never allocates more than [`DECODED_MAX`].
///
/// # Errors
/// [`EncodingError`].
pub fn decode<T: Decode<()> + Encode>(bytes: &[u8], limit: usize) -> Result<T, EncodingError> {
    if bytes.len() > limit {
        return Err(EncodingError::TooLarge(limit));
    }
    let config = config::standard().with_limit::<DECODED_MAX>();
    let (record, used) =
        bincode::decode_from_slice(bytes, config).map_err(|e| EncodingError::Malformed(e.to_string()))?;
    if used == bytes.len() && encode(&record, limit)? == bytes { Ok(record) } else { Err(EncodingError::NotCanonical) }
}

/// The most bytes that the values of one record may take when decoded.
pub const DECODED_MAX: usize = 64 << 20;
