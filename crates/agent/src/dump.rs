//! Which history an RDB file belongs to, and where it ends there: the fields `repl-id` and `repl-offset` at its head.
//!
//! The format is Redis' (`rdb.c`): nine bytes of magic and version, then fields, each an opcode with two strings, before
//! any data. The fields are there where the server that saved had a replication backlog or was a replica.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::start_rule::Point;

/// The fields that Redis and Valkey write take some 200 bytes.
const HEAD: u64 = 4096;

/// Opcode of a field.
const FIELD: u8 = 0xFA;

/// Where the file ends in its history; `None` where it does not say.
pub fn end(path: &Path) -> io::Result<Option<Point>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    Ok(parse(&head))
}

fn parse(head: &[u8]) -> Option<Point> {
    // Valkey writes VALKEY from 9.0 on.
    if !head.starts_with(b"REDIS") && !head.starts_with(b"VALKEY") {
        return None;
    }
    let mut rest = head.get(9..)?;
    let (mut replid, mut offset) = (None, None);
    while byte(&mut rest)? == FIELD {
        let (name, value) = (text(&mut rest)?, text(&mut rest)?);
        match name.as_str() {
            "repl-id" if !value.is_empty() => replid = Some(value),
            "repl-offset" => offset = Some(value.parse().ok()?),
            _ => {}
        }
        if let (Some(replid), Some(offset)) = (&replid, offset) {
            return Some(Point { replid: String::clone(replid), offset });
        }
    }
    None
}

/// A string as `rdbSaveRawString` writes it. One that was compressed reads as empty: names and numbers are too short for
/// that, and the 40 random digits of a history do not get shorter.
fn text(rest: &mut &[u8]) -> Option<String> {
    let first = byte(rest)?;
    let text = match first {
        0xC0 => i8::from_le_bytes([byte(rest)?]).to_string(),
        0xC1 => i16::from_le_bytes(take(rest, 2)?.try_into().ok()?).to_string(),
        0xC2 => i32::from_le_bytes(take(rest, 4)?.try_into().ok()?).to_string(),
        0xC3 => {
            let compressed = length(rest)?;
            length(rest)?;
            take(rest, compressed)?;
            String::new()
        }
        _ => {
            let length = length_after(first, rest)?;
            String::from_utf8(take(rest, length)?.to_vec()).ok()?
        }
    };
    Some(text)
}

fn length(rest: &mut &[u8]) -> Option<usize> {
    let first = byte(rest)?;
    length_after(first, rest)
}

fn length_after(first: u8, rest: &mut &[u8]) -> Option<usize> {
    let low = usize::from(first & 0x3F);
    match (first >> 6, first) {
        (0, _) => Some(low),
        (1, _) => Some(low << 8 | usize::from(byte(rest)?)),
        (2, 0x80) => usize::try_from(u32::from_be_bytes(take(rest, 4)?.try_into().ok()?)).ok(),
        // Longer than this file's head.
        _ => None,
    }
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    take(rest, 1)?.first().copied()
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(magic: &[u8], fields: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut head = magic.to_vec();
        for (name, value) in fields {
            head.push(FIELD);
            head.push(u8::try_from(name.len()).unwrap());
            head.extend_from_slice(name);
            head.extend_from_slice(value);
        }
        head.push(0xFE);
        head
    }

    fn long(text: &str) -> Vec<u8> {
        [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
    }

    /// As redis-server 7.0.15 writes it.
    #[test]
    fn reads_where_a_file_ends() {
        let replid = "8d5d53b1b4b1b2b0e6f6a1b9c1d2e3f405162738";
        let offset = |encoded: &[u8]| {
            head(
                b"REDIS0010",
                &[
                    (b"redis-ver", &long("7.0.15")),
                    (b"redis-bits", &[0xC0, 64]),
                    (b"ctime", &[0xC2, 1, 2, 3, 4]),
                    (b"used-mem", &[0xC3, 2, 40, b'a', b'b']),
                    (b"repl-stream-db", &[0xC0, 0]),
                    (b"repl-id", &long(replid)),
                    (b"repl-offset", encoded),
                ],
            )
        };
        let at = |offset| Some(Point { replid: replid.to_owned(), offset });
        assert_eq!(parse(&offset(&[0xC0, 100])), at(100));
        assert_eq!(parse(&offset(&[0xC1, 0xE8, 0x03])), at(1000));
        assert_eq!(parse(&offset(&[0xC2, 0x40, 0x42, 0x0F, 0x00])), at(1_000_000));
        assert_eq!(parse(&offset(&long("12345678901"))), at(12_345_678_901));
        let valkey = [b"VALKEY080", offset(&[0xC0, 7]).get(9..).unwrap()].concat();
        assert_eq!(parse(&valkey), at(7));
    }

    #[test]
    fn says_nothing_of_a_file_that_does_not_say() {
        let alone = head(b"REDIS0010", &[(b"redis-ver", &long("7.0.15")), (b"redis-bits", &[0xC0, 64])]);
        assert_eq!(parse(&alone), None);
        let whole = head(b"REDIS0010", &[(b"repl-id", &long("x")), (b"repl-offset", &[0xC0, 1])]);
        assert!(parse(&whole).is_some());
        for cut in 0..whole.len() - 1 {
            assert_eq!(parse(&whole[..cut]), None, "cut at {cut}");
        }
        assert_eq!(parse(b"no such file at all"), None);
    }
}
