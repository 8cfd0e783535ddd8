//! How redis.conf spells a value.

use std::fmt::Write;

/// A value in redis.conf's double quotes, so that any byte survives (`sdssplitargs` in Redis' sds.c).
pub fn quote(value: &[u8]) -> String {
    let mut quoted = String::from("\"");
    for &byte in value {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..=b'~' => quoted.push(char::from(byte)),
            _ => {
                let _ = write!(quoted, "\\x{byte:02x}");
            }
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting() {
        assert_eq!(quote(b"a b"), r#""a b""#);
        assert_eq!(quote(b"\"\\\n\0\x7f\xc3"), r#""\"\\\x0a\x00\x7f\xc3""#);
    }
}
