//! What integration tests share: a real OpenSSH server on loopback, and a relay that can hurt the link to it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod relay;
pub mod sshd;
