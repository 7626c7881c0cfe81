//! Files of a folder on disk, for tests and evaluations; production reads git objects.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use chiffon_schemas::Oid;

use crate::files::{Entry, Files, Kind};

/// Reads a folder. Files have their blob's id; folders have an id that changes with their content but is not git's.
///
/// # Errors
/// Something can't be read, or a name is no text.
pub fn files_of(root: &Path) -> io::Result<Files<'static>> {
    let mut blobs = BTreeMap::new();
    let mut entries = BTreeMap::new();
    read(root, "", &mut entries, &mut blobs)?;
    Ok(from_parts(entries, blobs))
}

/// Files from texts by path, as a test writes them.
pub fn files_from(texts: &[(&str, &str)]) -> Files<'static> {
    let mut blobs = BTreeMap::new();
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    for (path, text) in texts {
        // A path that ends in `@` is a link to what its text names.
        let (path, kind) = match path.strip_suffix('@') {
            Some(path) => (path, Kind::Link),
            None => (*path, Kind::File),
        };
        let oid = chiffon_schemas::blob_oid(text.as_bytes());
        blobs.insert(oid.clone(), text.as_bytes().to_vec());
        let mut folder = path;
        while let Some((up, _)) = folder.rsplit_once('/') {
            entries.entry(up.to_owned()).or_insert_with(|| Entry { kind: Kind::Folder, oid: oid.clone() });
            folder = up;
        }
        entries.insert(path.to_owned(), Entry { kind, oid });
    }
    from_parts(entries, blobs)
}

fn from_parts(entries: BTreeMap<String, Entry>, blobs: BTreeMap<Oid, Vec<u8>>) -> Files<'static> {
    Files::new(entries, move |oid, max| match blobs.get(oid) {
        Some(bytes) if bytes.len() as u64 <= max => Ok(bytes.clone()),
        Some(bytes) => Err(format!("it has {} bytes; at most {max} are read", bytes.len())),
        None => Err("there is no such object".to_owned()),
    })
}

fn read(
    folder: &Path,
    prefix: &str,
    entries: &mut BTreeMap<String, Entry>,
    blobs: &mut BTreeMap<Oid, Vec<u8>>,
) -> io::Result<String> {
    let mut names: Vec<_> = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    names.sort_by_key(fs::DirEntry::file_name);
    let mut listing = String::new();
    for item in names {
        let name = item.file_name().into_string().map_err(|_| io::Error::other("a name that is no text"))?;
        if name == ".git" {
            continue;
        }
        let path = format!("{prefix}{name}");
        let kind = item.file_type()?;
        let entry = if kind.is_dir() {
            let inner = read(&item.path(), &format!("{path}/"), entries, blobs)?;
            Entry { kind: Kind::Folder, oid: chiffon_schemas::blob_oid(inner.as_bytes()) }
        } else if kind.is_symlink() {
            let target = fs::read_link(item.path())?.into_os_string().into_encoded_bytes();
            let oid = chiffon_schemas::blob_oid(&target);
            blobs.insert(oid.clone(), target);
            Entry { kind: Kind::Link, oid }
        } else {
            let bytes = fs::read(item.path())?;
            let oid = chiffon_schemas::blob_oid(&bytes);
            blobs.insert(oid.clone(), bytes);
            Entry { kind: Kind::File, oid }
        };
        listing.push_str(&format!("{} {path}\n", entry.oid));
        entries.insert(path, entry);
    }
    Ok(listing)
}
