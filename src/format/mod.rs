//! What the bytes mean. Each file here is one page of `spec/`.
//!
//! Pure: nothing in this layer opens a file, reads a clock, draws a random number or waits. Whatever
//! comes from outside is judged here, with the limits of [`limits`], before anything is allocated for it.

pub mod id;
pub mod limits;
pub mod name;
