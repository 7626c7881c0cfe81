//! The forms in which one secret may turn up in output: as it is, by line, escaped, encoded.
//!
//! Reversed, hashed or encrypted forms are out of reach of a text filter and not attempted.

use std::collections::BTreeSet;

/// Secrets shorter than this stay in the log: removing `no` or `42` everywhere would garble it, and each mark
/// would tell where such a common text stood, which gives the value away.
pub(crate) const MIN_SECRET_BYTES: usize = 4;

/// Base64 of a secret inside a longer text keeps its inner digits only; fewer than this many are chance.
const MIN_ENCODED_BYTES: usize = 6;

/// Longer values are searched for in pieces: as much output as the longest pattern may be held back, and a key of
/// megabytes must not hold back megabytes.
const MAX_PIECE_BYTES: usize = 1024;

/// Adds every form of `secret` that is long enough to be removed. Returns whether there is one.
pub(crate) fn add_forms(secret: &str, forms: &mut BTreeSet<Vec<u8>>) -> bool {
    let whole = secret.trim();
    if whole.len() < MIN_SECRET_BYTES {
        return false;
    }
    for piece in pieces(whole) {
        add_encodings(piece, forms);
    }
    let mut found = false;
    // A value of several lines is removed line by line: programs indent, wrap and reorder lines.
    for line in whole.lines().map(str::trim).filter(|line| line.len() >= MIN_SECRET_BYTES) {
        found = true;
        for piece in pieces(line) {
            add_escapes(piece, forms);
            if line.len() < whole.len() {
                add_encodings(piece, forms);
            }
        }
    }
    found
}

/// Cuts a long text into pieces of at most [`MAX_PIECE_BYTES`] and a bit, none of them short.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let cut =
            if rest.len() <= MAX_PIECE_BYTES + 64 { rest.len() } else { rest.floor_char_boundary(MAX_PIECE_BYTES) };
        let (piece, after) = rest.split_at(cut);
        rest = after;
        Some(piece)
    })
}

fn add_escapes(text: &str, forms: &mut BTreeSet<Vec<u8>>) {
    let json = json_escaped(text);
    let ascii = json_ascii(&json);
    let repr = python_repr(text);
    // JSON inside JSON: Ansible prints results as JSON, and a result may itself hold some.
    forms.insert(json_escaped(&json).into_bytes());
    forms.insert(json_escaped(&ascii).into_bytes());
    forms.insert(json_escaped(&repr).into_bytes());
    for form in [json, ascii, repr.replace('\'', "\\'"), repr, shell_quoted(text), text.replace('\'', "''")] {
        forms.insert(json_escaped(&form).into_bytes());
        forms.insert(form.into_bytes());
    }
    forms.insert(text.as_bytes().to_vec());
}

fn add_encodings(text: &str, forms: &mut BTreeSet<Vec<u8>>) {
    for safe in ["-_.~", "-_.~/", "-_.!~*'()", ""] {
        let upper = percent(text, safe);
        if upper != text {
            forms.insert(lower_percent(&upper).into_bytes());
            forms.insert(upper.replace("%20", "+").into_bytes());
            forms.insert(upper.into_bytes());
        }
    }
    // Programs encode a file with its last line end, and `user:secret` with what stands before.
    for text in [text.to_owned(), format!("{text}\n")] {
        for offset in 0..3 {
            let standard = base64_inner(text.as_bytes(), offset);
            if standard.len() >= MIN_ENCODED_BYTES {
                forms.insert(standard.replace('+', "-").replace('/', "_").into_bytes());
                forms.insert(standard.into_bytes());
            }
        }
    }
}

/// The text as it stands between the quotes of a JSON string.
fn json_escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Python's `json.dumps` writes everything beyond ASCII as `\uXXXX`.
fn json_ascii(json: &str) -> String {
    let mut out = String::new();
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

/// The text as it stands between the quotes of Python's `repr`, where the quotes are not in the text.
fn python_repr(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// The text as it stands between single quotes of a shell word.
fn shell_quoted(text: &str) -> String {
    text.replace('\'', "'\"'\"'")
}

fn percent(text: &str, safe: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || safe.as_bytes().contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// `%2F` as `%2f`; the rest as it is.
fn lower_percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut digits = 0;
    for c in text.chars() {
        if c == '%' {
            digits = 2;
            out.push(c);
        } else if digits > 0 {
            digits -= 1;
            out.push(c.to_ascii_lowercase());
        } else {
            out.push(c);
        }
    }
    out
}

/// The digits of base64 that depend on `bytes` alone when `offset` other bytes stand before them in their group of
/// three and anything may follow.
fn base64_inner(bytes: &[u8], offset: usize) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let first_bit = offset * 8;
    let end_bit = first_bit + bytes.len() * 8;
    let bit = |at: usize| -> usize {
        let at = at - first_bit;
        usize::from(bytes[at / 8] >> (7 - at % 8) & 1)
    };
    let first_digit = first_bit.div_ceil(6);
    (first_digit..end_bit / 6)
        .map(|digit| char::from(DIGITS[(digit * 6..digit * 6 + 6).fold(0, |value, at| value << 1 | bit(at))]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forms_of(secret: &str) -> BTreeSet<String> {
        let mut forms = BTreeSet::new();
        add_forms(secret, &mut forms);
        forms.into_iter().map(|form| String::from_utf8(form).unwrap()).collect()
    }

    #[test]
    fn base64_is_found_at_every_offset() {
        let forms = forms_of("s3cr3t-value");
        // printf 's3cr3t-value', 'a:s3cr3t-value', 'ab:s3cr3t-value' and 'abc:s3cr3t-value' | base64
        for encoded in ["czNjcjN0LXZhbHVl", "YTpzM2NyM3QtdmFsdWU=", "YWI6czNjcjN0LXZhbHVl", "YWJjOnMzY3IzdC12YWx1ZQ=="]
        {
            assert!(forms.iter().any(|form| encoded.contains(form.as_str())), "{encoded}");
        }
    }

    #[test]
    fn escapes_of_json_python_shell_and_urls_are_forms() {
        let forms = forms_of("pä\"s's/w\\");
        for form in [
            "pä\\\"s's/w\\\\",
            "p\\u00e4\\\"s's/w\\\\",
            "pä\"s\\'s/w\\\\",
            "pä\"s'\"'\"'s/w\\",
            "p%C3%A4%22s%27s%2Fw%5C",
            "p%c3%a4%22s%27s%2fw%5c",
            "p%C3%A4%22s%27s/w%5C",
        ] {
            assert!(forms.contains(form), "{form}");
        }
    }

    #[test]
    fn short_values_are_no_patterns() {
        assert!(forms_of("abc").is_empty());
        assert!(forms_of("ab\ncd\n").iter().all(|form| form.len() > 3));
    }
}
