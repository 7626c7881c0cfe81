//! Writes what is generated from the types, or says what is stale: `chiffon-gen [--check]`, from the repository's root.

use std::process::ExitCode;

fn main() -> ExitCode {
    let check = std::env::args().any(|argument| argument == "--check");
    let mut stale = Vec::new();
    for (path, text) in chiffon_schemas::generated_files().into_iter().chain(expected_diagnostics()) {
        if std::fs::read_to_string(&path).is_ok_and(|known| known == text) {
            continue;
        }
        if !check && let Err(error) = write(&path, &text) {
            eprintln!("{path}: {error}");
            return ExitCode::FAILURE;
        }
        stale.push(path);
    }
    for path in &stale {
        println!("{} {path}", if check { "stale:" } else { "wrote" });
    }
    if check && !stale.is_empty() {
        eprintln!("run `make gen` and commit what it writes");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// What each file of `requests/invalid/` is answered with, beside it as `.expected`.
fn expected_diagnostics() -> Vec<(String, String)> {
    let Ok(entries) = std::fs::read_dir("requests/invalid") else { return Vec::new() };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let yaml = paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    yaml.filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        let found = chiffon_schemas::read_request(&name, &std::fs::read(&path).ok()?).err().unwrap_or_default();
        let text: Vec<String> = found.iter().map(|found| found.render(false)).collect();
        Some((path.with_extension("expected").to_str()?.to_owned(), text.join("\n")))
    })
    .collect()
}

fn write(path: &str, text: &str) -> std::io::Result<()> {
    if let Some(folder) = std::path::Path::new(path).parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text)
}
