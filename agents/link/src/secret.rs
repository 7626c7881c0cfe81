//! Files that hold a secret: one line that nobody but their owner reads.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Longer than any private key.
const MAX_PRIVATE_BYTES: u64 = 64 * 1024;

/// More than any password or key.
const MAX_BYTES: u64 = 4096;

/// Why a secret can't be had or kept.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file can't be read.
    #[error("{} can't be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others can read it too.
    #[error("others can read {}: chmod 600 {}", path.display(), path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// The file can't be written.
    #[error("{} can't be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The first line of a file that holds a secret.
///
/// # Errors
/// The file can't be read, or others can read it too.
pub fn read_secret(path: &Path) -> Result<String, SecretError> {
    let failed = |source| SecretError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    // Of the file that is read, not of whatever has its name by now.
    if !is_private(&file).map_err(failed)? {
        return Err(SecretError::Open { path: path.to_owned() });
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Reads a file of several lines that is for its owner alone: a private key.
///
/// # Errors
/// As [`read_secret`].
pub fn read_private(path: &Path) -> Result<String, SecretError> {
    let failed = |source| SecretError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    if !is_private(&file).map_err(failed)? {
        return Err(SecretError::Open { path: path.to_owned() });
    }
    let mut text = String::new();
    file.take(MAX_PRIVATE_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Writes a secret to a file for its owner alone, in place of what was there, all or nothing.
///
/// # Errors
/// The file can't be written.
pub fn write_secret(path: &Path, secret: &str) -> Result<(), SecretError> {
    let written = beside(path, secret).and_then(|file| file.persist(path).map_err(|error| error.error));
    written.map(drop).map_err(|source| SecretError::Write { path: path.to_owned(), source })
}

/// Writes a secret as [`write_secret`] does, but only where there is no file yet: false where somebody was first.
///
/// # Errors
/// The file can't be written.
pub fn write_first_secret(path: &Path, secret: &str) -> Result<bool, SecretError> {
    let written = beside(path, secret).and_then(|file| file.persist_noclobber(path).map_err(|error| error.error));
    match written {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(SecretError::Write { path: path.to_owned(), source }),
    }
}

/// A secret in a file that only its owner reads, under a name that nobody else has, in the same folder.
fn beside(path: &Path, secret: &str) -> std::io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".secret-").tempfile_in(folder)?;
    file.write_all(format!("{secret}\n").as_bytes())?;
    file.as_file().sync_all()?;
    Ok(file)
}

#[cfg(unix)]
fn is_private(file: &File) -> std::io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(file.metadata()?.permissions().mode() & 0o077 == 0)
}

/// Elsewhere the folder's own rules decide.
#[cfg(not(unix))]
fn is_private(_: &File) -> std::io::Result<bool> {
    Ok(true)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_secret_is_one_line_that_only_its_owner_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        assert!(matches!(read_secret(&path), Err(SecretError::Read { .. })));
        std::fs::write(&path, "open to all\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(read_secret(&path), Err(SecretError::Open { .. })));
        write_secret(&path, "a secret").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_secret(&path).unwrap(), "a secret");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn of_many_who_make_a_secret_at_the_same_time_one_is_first_and_all_read_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing-key");
        let make =
            |number: usize| (write_first_secret(&path, &number.to_string()).unwrap(), read_secret(&path).unwrap());
        let made: Vec<(bool, String)> = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..16).map(|number| scope.spawn(move || make(number))).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert_eq!(made.iter().filter(|(first, _)| *first).count(), 1);
        assert!(made.iter().all(|(_, secret)| *secret == made[0].1), "{made:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
