//! Finds the files of a checkout that hold vault ciphertext: what a run may decrypt, and so has to be told to the
//! redactor. Decrypting itself is the callback plugin's, with the very secrets that the run uses.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use aho_corasick::AhoCorasick;
use chiffon_requests::{Error, Repo, WalkLimits};
use chiffon_schemas::{Oid, RepoPath};

const HEADER: &str = "$ANSIBLE_VAULT;";

/// Ciphertext has more digits than this; a text that only talks about vaults has none.
const MIN_DIGITS: usize = 80;

/// Files are read in blocks of this size.
const BLOCK_BYTES: u64 = 256 * 1024;

/// Blobs over this are not looked at in a repository.
const LARGEST_BLOB: u64 = 16 * 1024 * 1024;

/// So much of a block is looked at again with the next: a header, its indentation and the first line of digits.
const OVERLAP_BYTES: usize = 4096;

/// Files for readers, which Ansible never loads; manuals like to show ciphertext of nobody's password.
const DOCUMENTS: [&str; 3] = ["md", "rst", "adoc"];

/// The regular files under `folder` that hold ciphertext, sorted. Links are not followed: what they name inside the
/// checkout is found as itself.
///
/// # Errors
/// A folder or file can't be read.
pub(crate) fn vaulted_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let header = AhoCorasick::new([HEADER]).map_err(io::Error::other)?;
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && !is_document(&path) && file_holds_ciphertext(&header, &path)? {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The first file of a commit, by path, that holds ciphertext: whether runs from it need the vault's password.
///
/// Files over 16 MiB are passed over here, and only here: a run looks at every byte.
///
/// # Errors
/// The repository can't be read.
pub fn first_vaulted(repo: &Repo, commit: &Oid) -> Result<Option<RepoPath>, Error> {
    let header = AhoCorasick::new([HEADER]).expect("one short pattern");
    let walk = repo.walk(commit, None, &WalkLimits::default())?;
    for (path, entry) in walk.entries {
        if !entry.kind.is_file() || is_document(Path::new(path.as_str())) {
            continue;
        }
        match repo.read_blob(&entry.oid, LARGEST_BLOB) {
            Ok(data) if holds_ciphertext(&header, &data) => return Ok(Some(path)),
            Ok(_) | Err(Error::TooLarge { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn is_document(path: &Path) -> bool {
    path.extension().and_then(|ext| ext.to_str()).is_some_and(|ext| DOCUMENTS.contains(&ext))
}

/// Looks block by block, since a repository may hold images and archives of any size.
fn file_holds_ciphertext(header: &AhoCorasick, path: &Path) -> io::Result<bool> {
    let mut file = fs::File::open(path)?;
    let mut window = Vec::new();
    loop {
        let read = file.by_ref().take(BLOCK_BYTES).read_to_end(&mut window)?;
        if holds_ciphertext(header, &window) {
            return Ok(true);
        }
        if read == 0 {
            return Ok(false);
        }
        window.drain(..window.len().saturating_sub(OVERLAP_BYTES));
    }
}

fn holds_ciphertext(header: &AhoCorasick, data: &[u8]) -> bool {
    header.find_iter(data).any(|found| {
        let rest = &data[found.end()..];
        // The rest of the header's line; inside JSON the line ends with a backslash and an `n`.
        let line = rest.iter().position(|b| matches!(b, b'\n' | b'\\')).unwrap_or(rest.len());
        digits(&rest[line..]) >= MIN_DIGITS
    })
}

/// How many digits follow, on lines of any width, as Ansible reads them; no more than matter are counted.
fn digits(text: &[u8]) -> usize {
    let (mut count, mut at) = (0, 0);
    while count < MIN_DIGITS {
        match &text[at..] {
            [b'0'..=b'9' | b'a'..=b'f', ..] => (count, at) = (count + 1, at + 1),
            [b' ' | b'\t' | b'\r' | b'\n', ..] => at += 1,
            [b'\\', b'n' | b'r', ..] => at += 2,
            _ => break,
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s13_whole_files_inline_values_and_json_count_and_talk_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let digits = "3".repeat(80);
        let write = |name: &str, text: String| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
        };
        write("group_vars/all/vault.yml", format!("$ANSIBLE_VAULT;1.1;AES256\n{digits}\n3334\n"));
        write("site.yml", format!("a: 1\nb: !vault |\n    $ANSIBLE_VAULT;1.2;AES256;home\n    {digits}\n    3334\n"));
        write("inventory.json", format!(r#"{{"__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\n{digits}\n33"}}"#));
        write("README.md", format!("$ANSIBLE_VAULT;1.1;AES256\n{digits}\n3334\n"));
        write("notes.txt", "encrypted files begin with $ANSIBLE_VAULT;1.1;AES256\n3334…\n".to_owned());
        // Across the border of two blocks.
        let before = "x".repeat(usize::try_from(BLOCK_BYTES).unwrap() - 10);
        write("big.bin", format!("{before}$ANSIBLE_VAULT;1.1;AES256\n{digits}\n3334\n"));
        let found = vaulted_files(folder.path()).unwrap();
        let names: Vec<_> =
            found.iter().map(|path| path.strip_prefix(folder.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["big.bin", "group_vars/all/vault.yml", "inventory.json", "site.yml"]);
    }
}
