//! What `nfz doctor --json` prints.

use serde::Serialize;

/// What a server can do. Sizes and rates in bytes, times in seconds unless the name says otherwise.
#[derive(Debug, Default, Serialize)]
pub struct DoctorDocument {
    pub software: Option<String>,
    pub exists: bool,
    pub extensions: Vec<&'static str>,
    pub round_trip_ms: f64,
    pub clock_ahead: i64,
    pub free: Option<u64>,
    pub write_length: Option<u64>,
    pub renames: bool,
    pub replaces: bool,
    pub removes: bool,
    pub flushes: bool,
    pub excludes: bool,
    pub minds_case: bool,
    pub name_length: usize,
    pub speeds: Vec<SpeedDocument>,
    pub left_behind: Option<String>,
    pub is_usable: bool,
    pub consequences: Vec<String>,
}

/// How fast so many connections are together.
#[derive(Debug, Default, Serialize)]
pub struct SpeedDocument {
    pub connections: usize,
    pub opened: usize,
    pub up: u64,
    pub down: u64,
}
