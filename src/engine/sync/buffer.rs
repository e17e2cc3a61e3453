//! Buffers that are zeroed once and used again and again: a sync that allocated for each file would leave the memory of every thread
//! in pieces, and hold far more than it needs.

use std::{
    mem,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

/// Bytes at the front of an allocation that keeps its size.
#[derive(Default)]
pub struct Filled {
    /// All of it initialised, the first `length` bytes in use.
    memory: Vec<u8>,
    length: usize,
}

impl Filled {
    /// An empty one with room for `length` bytes.
    #[must_use]
    pub fn new(length: usize) -> Self {
        Self { memory: vec![0; length], length: 0 }
    }

    /// How many bytes are in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// The bytes in use.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.memory[..self.length]
    }

    /// The next `wanted` bytes, to be written to; what they hold is anything.
    pub fn room(&mut self, wanted: usize) -> &mut [u8] {
        let end = self.length + wanted;
        if self.memory.len() < end {
            // No doubling: many of these are held.
            self.memory.reserve_exact(end - self.memory.len());
            self.memory.resize(end, 0);
        }
        &mut self.memory[self.length..end]
    }

    /// Takes `count` bytes of the room into use.
    pub fn filled(&mut self, count: usize) {
        self.length = self.memory.len().min(self.length + count);
    }

    /// Adds bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.filled(bytes.len());
    }

    /// Keeps the first `length` bytes only.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Gives up the first `count` bytes in use; the others move to the front.
    pub fn drop_front(&mut self, count: usize) {
        self.memory.copy_within(count..self.length, 0);
        self.length -= count;
    }
}

/// Buffers that nobody uses at the moment.
pub struct Buffers {
    length: usize,
    free: Mutex<Vec<Filled>>,
}

impl Buffers {
    /// Buffers that have room for `length` bytes from the start.
    #[must_use]
    pub fn new(length: usize) -> Arc<Self> {
        Arc::new(Self { length, free: Mutex::default() })
    }

    /// An empty buffer, which comes back here by itself.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> Buffer {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut filled = free.unwrap_or_else(|| Filled::new(self.length));
        filled.truncate(0);
        Buffer { filled, home: Arc::clone(self) }
    }
}

/// A buffer on loan.
pub struct Buffer {
    filled: Filled,
    home: Arc<Buffers>,
}

impl Deref for Buffer {
    type Target = Filled;

    fn deref(&self) -> &Filled {
        &self.filled
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Filled {
        &mut self.filled
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // What has grown much larger is not kept: few chunks need so much.
        let filled = mem::take(&mut self.filled);
        if filled.memory.len() <= self.home.length * 2 {
            self.home.free.lock().unwrap_or_else(PoisonError::into_inner).push(filled);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_is_what_was_put_in_and_not_given_up() {
        let mut filled = Filled::default();
        filled.extend(b"0123456789");
        filled.drop_front(3);
        filled.room(100)[..2].copy_from_slice(b"ab");
        filled.filled(2);
        assert_eq!(filled.bytes(), b"3456789ab");
        filled.truncate(4);
        filled.extend(b"!");
        assert_eq!((filled.bytes(), filled.len()), (&b"3456!"[..], 5));
    }

    #[test]
    fn a_buffer_comes_back_empty_and_with_its_memory() {
        let buffers = Buffers::new(1000);
        let mut first = buffers.take();
        first.extend(&[7; 1000]);
        let memory = first.bytes().as_ptr();
        drop(first);
        let mut again = buffers.take();
        assert_eq!(again.len(), 0);
        assert_eq!(again.room(1000).as_ptr(), memory);
    }
}
