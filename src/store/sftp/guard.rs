//! Stands between the pipes of ssh and the SFTP client: refuses packets that would make the client allocate
//! without bound or hang, makes ASCII of texts that would end the session where they are not UTF-8, notices
//! progress, and keeps the first bytes, which tell a login script that prints.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The largest packet taken from a server, in bytes: 20,000 names of a directory at once.
const PACKET_MAX: u32 = 4 << 20;
/// The least that one name of a listing takes in a packet, in bytes: two lengths and the flags.
const NAME_MIN: u32 = 12;
/// How many bytes of the beginning are kept.
const HEAD: usize = 80;
const STATUS: u8 = 101;
const DATA: u8 = 103;
const NAMES: u8 = 104;

/// What has passed through the pipes of one connection.
#[derive(Debug)]
pub(super) struct Meter {
    started: Instant,
    /// Milliseconds from `started` to the last byte that moved.
    moved: AtomicU64,
    answers: Arc<AtomicU64>,
    head: Mutex<Vec<u8>>,
    refused: OnceLock<&'static str>,
    round_trips: Mutex<RoundTrips>,
}

/// The first questions of a session, each of which is answered before the next is asked: how long the quickest took.
#[derive(Debug, Default)]
struct RoundTrips {
    asked: Option<Instant>,
    answered: u32,
    quickest: Option<Duration>,
}

/// The greeting, which the handshake delays; the server's limits; and the first call.
const FIRST_QUESTIONS: u32 = 3;

impl Meter {
    /// A meter that adds the server's answers to `answers`.
    pub(super) fn new(answers: Arc<AtomicU64>) -> Self {
        Self {
            started: Instant::now(),
            moved: AtomicU64::new(0),
            answers,
            head: Mutex::default(),
            refused: OnceLock::new(),
            round_trips: Mutex::default(),
        }
    }

    /// About how long a question takes to be answered; nothing before the first was.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trips.lock().unwrap_or_else(PoisonError::into_inner).quickest
    }

    fn asked(&self) {
        let mut trips = self.round_trips.lock().unwrap_or_else(PoisonError::into_inner);
        if trips.answered < FIRST_QUESTIONS {
            trips.asked.get_or_insert_with(Instant::now);
        }
    }

    fn answered(&self) {
        let mut trips = self.round_trips.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asked) = trips.asked.take() {
            trips.answered += 1;
            let took = asked.elapsed();
            trips.quickest = Some(trips.quickest.map_or(took, |quickest| quickest.min(took)));
        }
    }

    /// Something moved, or was begun, now.
    pub(super) fn progress(&self) {
        self.moved.store(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// How long ago anything moved.
    pub(super) fn still_for(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.moved.load(Relaxed)))
    }

    /// Why the server's bytes were refused, if they were.
    pub(super) fn refused(&self) -> Option<&'static str> {
        self.refused.get().copied()
    }

    /// The text that came instead of SFTP, if the first bytes are text.
    pub(super) fn text_before_sftp(&self) -> Option<String> {
        let head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let is_text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x1b | 0x20..=0x7e | 0x80..);
        let text = !head.is_empty() && head.iter().take(4).all(is_text);
        text.then(|| String::from_utf8_lossy(&head).trim().to_owned())
    }

    fn keep_head(&self, bytes: &[u8]) {
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let room = HEAD - head.len();
        head.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// Follows the borders of packets and judges each by its first bytes.
#[derive(Debug, Default)]
struct Packets {
    /// The packet's first bytes: length 4, type 1, request 4, and of names their count 4.
    start: [u8; 13],
    started: usize,
    /// Bytes of the packet that are still to come after `start`.
    rest: u32,
    texts: Texts,
    /// Packets that have begun.
    count: u64,
}

impl Packets {
    /// Looks at the next bytes; why they are refused, or how many packets began in them.
    fn take(&mut self, mut bytes: &mut [u8]) -> Result<u64, &'static str> {
        let before = self.count;
        while !bytes.is_empty() {
            let length = if self.rest > 0 { bytes.len().min(self.rest as usize) } else { 1 };
            let (piece, after) = bytes.split_at_mut(length);
            bytes = after;
            if self.rest > 0 {
                self.rest -= length as u32;
                self.texts.clean(piece);
            } else {
                self.start[self.started] = piece[0];
                self.started += 1;
                self.judge()?;
            }
        }
        Ok(self.count - before)
    }

    fn judge(&mut self) -> Result<(), &'static str> {
        let word = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|i| self.start[at + i]));
        let length = word(0);
        match self.started {
            4 if length > PACKET_MAX => Err("the server sent a packet that is too long"),
            4 if length < 5 => Err("the server sent a packet that is too short"),
            5 if self.start[4] == DATA && length < 9 => Err("the server sent data without a length"),
            5 if self.start[4] == NAMES && length < 9 => Err("the server sent a listing without a count"),
            13 if word(9) > (length - 9) / NAME_MIN => Err("the server sent a listing that promises too many names"),
            _ => {
                self.end_start(length);
                Ok(())
            }
        }
    }

    /// Ends the looked-at start of a packet of `length`, once it is complete.
    fn end_start(&mut self, length: u32) {
        match self.started {
            9 if self.start[4] != NAMES => self.begin_rest(length - 5),
            13 => self.begin_rest(length - 9),
            _ => {}
        }
    }

    fn begin_rest(&mut self, rest: u32) {
        (self.started, self.rest) = (0, rest);
        self.texts = match self.start[4] {
            NAMES => Texts::at(Field::NameLength, 4),
            STATUS => Texts::at(Field::Code, 4),
            _ => Texts::default(),
        };
        self.count += 1;
    }
}

/// Finds the texts in a packet that the client wants in UTF-8, and makes ASCII of them. Our own names are ASCII;
/// a foreign name or a message in another encoding would end the session.
#[derive(Clone, Copy, Debug, Default)]
struct Texts {
    field: Field,
    /// Bytes of the field that are still to come.
    left: u32,
    /// The last four bytes.
    word: u32,
}

/// What a byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Field {
    NameLength,
    Name,
    LongLength,
    Long,
    Flags,
    Attributes,
    Code,
    MessageLength,
    Message,
    /// Nothing that matters.
    #[default]
    Rest,
}

impl Texts {
    fn at(field: Field, left: u32) -> Texts {
        Texts { field, left, word: 0 }
    }

    fn clean(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.field == Field::Rest {
                return;
            }
            if matches!(self.field, Field::Name | Field::Message) && !byte.is_ascii() {
                *byte = b'?';
            }
            self.word = self.word << 8 | u32::from(*byte);
            self.left = self.left.saturating_sub(1);
            while self.left == 0 && self.field != Field::Rest {
                *self = self.next();
            }
        }
    }

    /// The field that follows; empty ones have nothing left at once.
    fn next(self) -> Texts {
        match self.field {
            Field::NameLength => Texts::at(Field::Name, self.word),
            Field::Name => Texts::at(Field::LongLength, 4),
            Field::LongLength => Texts::at(Field::Long, self.word),
            Field::Long => Texts::at(Field::Flags, 4),
            Field::Flags => attributes(self.word),
            Field::Attributes => Texts::at(Field::NameLength, 4),
            Field::Code => Texts::at(Field::MessageLength, 4),
            Field::MessageLength => Texts::at(Field::Message, self.word),
            Field::Message | Field::Rest => Texts::default(),
        }
    }
}

/// The attributes that the flags announce: size 8, owners 8, permissions 4, times 8. Extended ones have no fixed
/// length; no server is known to list them.
fn attributes(flags: u32) -> Texts {
    let lengths = [(1, 8), (2, 8), (4, 4), (8, 8)];
    let length = lengths.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, length)| length).sum();
    if flags & 0x8000_0000 == 0 { Texts::at(Field::Attributes, length) } else { Texts::default() }
}

/// What ssh writes, guarded.
pub(super) struct GuardedRead<R> {
    inner: R,
    meter: Arc<Meter>,
    packets: Packets,
}

impl<R> GuardedRead<R> {
    pub(super) fn new(inner: R, meter: Arc<Meter>) -> Self {
        Self { inner, meter, packets: Packets::default() }
    }

    fn look_at(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.meter.progress();
        self.meter.answered();
        if self.packets.count == 0 {
            self.meter.keep_head(bytes);
        }
        let taken = self.packets.take(bytes).map_err(|why| {
            let _ = self.meter.refused.set(why); // the first reason is the reason
            io::Error::new(io::ErrorKind::InvalidData, why)
        })?;
        self.meter.answers.fetch_add(taken, Relaxed);
        Ok(())
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for GuardedRead<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        Poll::Ready(self.look_at(&mut buf.filled_mut()[before..]))
    }
}

/// What ssh reads, metered.
pub(super) struct MeteredWrite<W> {
    inner: W,
    meter: Arc<Meter>,
}

impl<W> MeteredWrite<W> {
    pub(super) fn new(inner: W, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }

    fn metered(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(1..)) = polled {
            self.meter.progress();
            self.meter.asked();
        }
        polled
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for MeteredWrite<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.metered(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.metered(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// What passes of `bytes` from a server that come in pieces of this length, or why they are refused. Only fuzzing calls it.
#[doc(hidden)]
pub fn guarded(bytes: &[u8], piece: usize) -> Result<Vec<u8>, &'static str> {
    let (mut bytes, mut packets) = (bytes.to_vec(), Packets::default());
    bytes.chunks_mut(piece).try_for_each(|piece| packets.take(piece).map(drop))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(kind: u8, after: &[u8]) -> Vec<u8> {
        let length = u32::try_from(after.len() + 1).unwrap();
        [&length.to_be_bytes()[..], &[kind], after].concat()
    }

    /// What the guard says when the bytes come in pieces of `step`.
    fn judged(bytes: &[u8], step: usize) -> Result<u64, &'static str> {
        let mut packets = Packets::default();
        bytes.to_vec().chunks_mut(step).map(|piece| packets.take(piece)).sum()
    }

    #[test]
    fn honest_packets_pass_however_they_are_split() {
        let names = [&[0, 0, 0, 7, 0, 0, 0, 2][..], &[0; 24]].concat();
        let stream = [packet(2, &[0, 0, 0, 3]), packet(101, &[0; 12]), packet(DATA, &[9; 500]), packet(NAMES, &names)];
        let stream = stream.concat();
        for step in 1..40 {
            assert_eq!(judged(&stream, step), Ok(4));
        }
    }

    #[test]
    fn packets_that_would_allocate_without_bound_or_hang_are_refused() {
        let promise = [&[0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff][..], &[0; 24]].concat();
        let hostile = [packet(NAMES, &promise), vec![0x7f, 0xff, 0xff, 0xff], vec![0, 0, 0, 4], packet(DATA, &[0; 4])];
        for bytes in hostile {
            for step in 1..20 {
                assert!(judged(&bytes, step).is_err(), "{bytes:?}");
            }
        }
    }

    fn text(text: &[u8]) -> Vec<u8> {
        [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat()
    }

    #[test]
    fn texts_become_ascii_and_nothing_else_is_touched() {
        let packets = |name: &[u8], message: &[u8]| {
            let sized = [&[0, 0, 0, 13][..], &[0xee; 20]].concat();
            let unsized_ = [0, 0, 0, 0];
            let names = [&[0xff, 0, 0, 7][..], &[0, 0, 0, 3], &text(name), &text(b"\xe9long"), &sized];
            let more = [&text(name)[..], &text(b""), &unsized_, &text(b""), &text(b"\xe9"), &sized];
            let names = packet(NAMES, &[names.concat(), more.concat()].concat());
            let status = packet(STATUS, &[&[0xff, 0, 0, 7, 0, 0, 0, 4][..], &text(message), &text(b"")].concat());
            [names, status, packet(DATA, &[0xff; 300])].concat()
        };
        let clean = packets(b"b?d", b"not allow?d");
        for step in 1..40 {
            let (mut bytes, mut guard) = (packets(b"b\xe4d", b"not allow\xe9d"), Packets::default());
            let taken: u64 = bytes.chunks_mut(step).map(|piece| guard.take(piece).unwrap()).sum();
            assert_eq!((taken, &bytes), (3, &clean));
        }
    }

    #[test]
    fn a_round_trip_is_what_the_quickest_of_the_first_questions_took() {
        let meter = Meter::new(Arc::default());
        assert_eq!(meter.round_trip(), None);
        meter.answered();
        assert_eq!(meter.round_trip(), None);
        for pause in [30, 5, 20] {
            meter.asked();
            std::thread::sleep(Duration::from_millis(pause));
            meter.answered();
        }
        let quickest = meter.round_trip().unwrap();
        assert!(quickest >= Duration::from_millis(5), "{quickest:?}");
        meter.asked();
        meter.answered();
        assert_eq!(meter.round_trip(), Some(quickest));
    }

    #[test]
    fn text_is_told_from_sftp_by_the_first_bytes() {
        let head = |bytes: &[u8]| {
            let meter = Meter::new(Arc::default());
            meter.keep_head(bytes);
            meter.text_before_sftp()
        };
        assert_eq!(head(b"Welcome to the server\r\n").as_deref(), Some("Welcome to the server"));
        assert_eq!(head(&packet(2, &[0, 0, 0, 3])), None);
        assert_eq!(head(b""), None);
    }
}
