//! Memory sizes as redis.conf has them.

/// A memory size as Redis reads it (`memtoull`): `1k` is 1000, `1kb` is 1024. `None` for what is none.
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim_matches('"').to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}
