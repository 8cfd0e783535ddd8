//! Kubernetes quantities (`500m`, `10Gi`): what they are worth.
//!
//! Pure. The API server stores quantities in a canonical spelling, so only their worth can be compared.

/// Worth of a quantity in billionths; `None` where the text is not a quantity. Exact: a quantity is at most
/// 2^63, and finer than a billionth is rounded up, as Kubernetes does.
pub fn nanos(text: &str) -> Option<i128> {
    let (negative, unsigned) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let digits = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 32 {
        return None;
    }
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (multiplier, decimals) = scale(suffix)?;
    let divisor = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let exponent = decimals + 9;
    let (up, down) = if exponent >= 0 {
        (10_i128.checked_pow(exponent.unsigned_abs())?, 1)
    } else {
        (1, 10_i128.checked_pow(exponent.unsigned_abs())?)
    };
    let dividend = mantissa.checked_mul(multiplier)?.checked_mul(up)?;
    let divisor = divisor.checked_mul(down)?;
    let worth = dividend.checked_add(divisor - 1)? / divisor;
    Some(if negative { -worth } else { worth })
}

/// A suffix as a factor and a power of ten.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    let binary = |power: u32| Some((1_i128 << (10 * power), 0));
    match suffix {
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        "n" => Some((1, -9)),
        "u" => Some((1, -6)),
        "m" => Some((1, -3)),
        "" => Some((1, 0)),
        "k" => Some((1, 3)),
        "M" => Some((1, 6)),
        "G" => Some((1, 9)),
        "T" => Some((1, 12)),
        "P" => Some((1, 15)),
        "E" => Some((1, 18)),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            (-27..=18).contains(&exponent).then_some((1, exponent))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worth() {
        for (left, right) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1e3", "1k"),
            ("1E3", "1k"),
            ("1E", "1e18"),
            ("1024Ki", "1Mi"),
            ("+5", "5"),
            ("0", "0Gi"),
            ("0.1n", "1n"),
            ("100e-3", "100m"),
        ] {
            assert_eq!(nanos(left), nanos(right), "{left} {right}");
            assert!(nanos(left).is_some(), "{left}");
        }
        assert_eq!(nanos("1"), Some(1_000_000_000));
        assert_eq!(nanos("-1m"), Some(-1_000_000));
    }

    #[test]
    fn not_quantities() {
        for text in ["", "Gi", "1Gib", "1 Gi", "1,5", "--1", "1.2.3", ".", "ten", "1e99", "1e", "٣"] {
            assert_eq!(nanos(text), None, "{text}");
        }
    }
}
