//! Puts `requests/template/` and `schemas/json/` into the binary, so that `chiffon init` needs no files of its own.

#![expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts through the environment")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("..");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    write_list(&root.join("requests/template"), &out.join("template.rs"));
    write_list(&root.join("schemas/json"), &out.join("schemas.rs"));
}

/// Writes `[("path", include_str!("…")), …]`, sorted, for `include!`.
fn write_list(folder: &Path, out: &Path) {
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files = Vec::new();
    collect(folder, folder, &mut files);
    files.sort();
    let mut text = String::from("[\n");
    for (name, path) in files {
        writeln!(text, "    ({name:?}, include_str!({:?})),", path.display().to_string()).expect("writing to a string");
    }
    text.push(']');
    std::fs::write(out, text).expect("writing into OUT_DIR");
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, PathBuf)>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).expect("under its root").to_string_lossy().replace('\\', "/");
            let absolute = std::fs::canonicalize(&path).expect("it was just listed");
            files.push((name, absolute));
        }
    }
}
