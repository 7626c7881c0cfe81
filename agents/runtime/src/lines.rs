//! Append-only files of JSON lines, each with a checksum: `<16 hexadecimal digits> <JSON>\n`.
//!
//! A line counts when it is whole. A last line that is not can only be one whose writer never heard that it was
//! written, so it may be dropped; anything else that does not fit is damage, and nobody guesses what it said.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::work::hex;

/// The checksum and the space after it.
const PREFIX: usize = 17;

/// The longest line that is read, in bytes: an outcome of half a MiB or a chunk of 64 KiB in its worst form.
pub(crate) const MAX_LINE: u64 = 4 * 1024 * 1024;

/// What reading a file gave.
pub(crate) struct Lines<T> {
    pub entries: Vec<T>,
    /// Bytes that hold whole lines.
    pub good: u64,
    /// What follows them: the torn last line.
    pub torn: Vec<u8>,
    /// Whether the last whole line lacks its end.
    pub open: bool,
}

/// Writes one line.
pub(crate) fn encode(entry: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(entry)?;
    let mut line = Vec::with_capacity(PREFIX + json.len() + 1);
    line.extend_from_slice(checksum(&json).as_bytes());
    line.push(b' ');
    line.extend_from_slice(&json);
    line.push(b'\n');
    Ok(line)
}

/// Reads one line without its end; otherwise the reason.
pub(crate) fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    let json = line.get(PREFIX..).ok_or("too short")?;
    if line.get(..PREFIX) != Some(format!("{} ", checksum(json)).as_bytes()) {
        return Err("its checksum is wrong".to_owned());
    }
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

fn checksum(json: &[u8]) -> String {
    hex(&Sha256::digest(json)[..8])
}

/// Reads a whole file; a missing one is empty.
///
/// # Errors
/// It can't be read, or is damaged before its last line.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Lines<T>, Error> {
    let mut lines = Lines { entries: Vec::new(), good: 0, torn: Vec::new(), open: false };
    let failed = |source| Error::File { what: "read", path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(lines),
        Err(error) => return Err(failed(error)),
    };
    loop {
        let mut line = Vec::new();
        file.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(failed)?;
        if line.is_empty() {
            return Ok(lines);
        }
        let whole = line.strip_suffix(b"\n");
        match (whole, decode(whole.unwrap_or(&line))) {
            (_, Ok(entry)) => {
                lines.entries.push(entry);
                lines.good += line.len() as u64;
                lines.open = whole.is_none();
            }
            (None, Err(_)) if (line.len() as u64) < MAX_LINE => lines.torn = line,
            (_, Err(reason)) => {
                return Err(Error::Damaged { path: path.to_owned(), line: lines.entries.len() + 1, reason });
            }
        }
    }
}
