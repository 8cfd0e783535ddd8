//! Shapes of a directive's value, each in two forms that have to agree: a check in Rust for the plan, and a pattern for
//! the API server, which cannot calculate with `100mb`. Pure.
//!
//! Values are taken in their plain form only: without quotes, blanks around them or zeros before them. Redis takes the
//! same value in many spellings, and a bound that only some of them obey is none.

/// Most digits of a number. More would not fit into the 32 bits that Redis has for it.
const DIGITS: u32 = 9;

/// Units of a size as Redis reads them (`memtoull`): their letter, their worth in bytes without and with a `b` after it, and
/// the digits that may stand before them. What all nines are worth still fits into 63 bits.
const UNITS: [(&str, u64, u64, u32); 4] = [
    ("", 1, 1, 18),
    ("k", 1_000, 1 << 10, 15),
    ("m", 1_000_000, 1 << 20, 12),
    ("g", 1_000_000_000, 1 << 30, 9),
];

/// What values a directive may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One of these words.
    Words(&'static [&'static str]),
    /// A whole number; `zero` says whether 0, which switches something off, is fine too.
    Number {
        /// Whether 0 is.
        zero: bool,
        /// From.
        least: u64,
        /// To; `None` is what Redis bears.
        most: Option<u64>,
    },
    /// 0 or a size of at least so many bytes.
    Size {
        /// Bytes.
        least: u64,
        /// Whether 0 is.
        zero: bool,
    },
    /// 0, a size, or a share of `maxmemory`.
    SizeOrPercent {
        /// Bytes.
        least: u64,
        /// Percent.
        least_percent: u64,
    },
    /// Groups of class, hard limit, soft limit and seconds. For all classes but pubsub each limit is 0 or a size.
    OutputBuffers {
        /// Bytes.
        least: u64,
    },
    /// Empty, or a name of letters, digits and `. _ / : -`.
    Name,
}

impl Shape {
    /// Whether a value has this shape.
    pub fn allows(self, value: &str) -> bool {
        match self {
            Self::Words(words) => words.contains(&value),
            Self::Number { zero, least, most } => whole(value, DIGITS).is_some_and(|number| {
                (zero && number == 0) || (least..=most.unwrap_or(nines(DIGITS))).contains(&number)
            }),
            Self::Size { least, zero } => is_size(value, least, zero),
            Self::SizeOrPercent { least, least_percent } => match value.strip_suffix('%') {
                Some(share) => whole(share, 3).is_some_and(|share| (least_percent..=100).contains(&share)),
                None => is_size(value, least, true),
            },
            Self::OutputBuffers { least } => are_output_buffers(value, least),
            Self::Name => {
                value.len() <= 63 && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/:-".contains(&b))
            }
        }
    }

    /// The same as a pattern: RE2, as CEL has it.
    pub fn pattern(self) -> String {
        match self {
            Self::Words(words) => format!("^({})$", words.join("|")),
            Self::Number { zero, least, most } => {
                let range = between(least, most.unwrap_or(nines(DIGITS)));
                format!("^({}{range})$", if zero && least > 0 { "0|" } else { "" })
            }
            Self::Size { least, zero } => format!("(?i)^({})$", sizes(least, zero)),
            Self::SizeOrPercent { least, least_percent } => {
                format!("(?i)^({}|({})%)$", sizes(least, true), between(least_percent, 100))
            }
            Self::OutputBuffers { least } => {
                let (bound, any) = (sizes(least, true), sizes(1, true));
                let seconds = between(0, nines(DIGITS));
                let group =
                    format!("((normal|replica|slave)( +({bound})){{2}}|pubsub( +({any})){{2}}) +({seconds})");
                format!("(?i)^({group}( +|$))+$")
            }
            Self::Name => "^[A-Za-z0-9._/:-]{0,63}$".to_owned(),
        }
    }
}

/// A number without a sign and without zeros before it.
fn whole(text: &str, digits: u32) -> Option<u64> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let fits = u32::try_from(text.len()).is_ok_and(|length| length <= digits);
    if is_plain && fits { text.parse().ok() } else { None }
}

fn is_size(text: &str, least: u64, zero: bool) -> bool {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.to_ascii_lowercase();
    let (letter, has_b) = unit.strip_suffix('b').map_or((unit.as_str(), false), |letter| (letter, true));
    let Some((_, alone, with_b, digits)) = UNITS.iter().find(|(of_unit, ..)| letter == *of_unit) else {
        return false;
    };
    let worth = if has_b { *with_b } else { *alone };
    whole(number, *digits)
        .is_some_and(|number| (zero && number == 0) || number.saturating_mul(worth) >= least)
}

fn are_output_buffers(value: &str, least: u64) -> bool {
    if value.is_empty() || value.starts_with(' ') {
        return false;
    }
    let mut words = value.split(' ').filter(|word| !word.is_empty());
    while let Some(class) = words.next() {
        let least = match class.to_ascii_lowercase().as_str() {
            "pubsub" => 1,
            "normal" | "replica" | "slave" => least,
            _ => return false,
        };
        let mut next_is = |fine: &dyn Fn(&str) -> bool| words.next().is_some_and(fine);
        let limit = |text: &str| is_size(text, least, true);
        if !(next_is(&limit) && next_is(&limit) && next_is(&|text| whole(text, DIGITS).is_some())) {
            return false;
        }
    }
    true
}

/// Alternatives for the sizes of at least so many bytes, in each unit.
fn sizes(least: u64, zero: bool) -> String {
    let of_unit = |(letter, alone, with_b, digits): &(&str, u64, u64, u32)| {
        let [alone, with_b] = [alone, with_b].map(|worth| between(least.div_ceil(*worth), nines(*digits)));
        if alone == with_b {
            format!("({alone}){letter}b?")
        } else {
            format!("({alone}){letter}|({with_b}){letter}b")
        }
    };
    let sizes: Vec<String> = UNITS.iter().map(of_unit).collect();
    let zero = if zero { "0([kmg]?b?)|" } else { "" };
    format!("{zero}{}", sizes.join("|"))
}

/// The largest number of so many digits.
fn nines(digits: u32) -> u64 {
    10_u64.saturating_pow(digits).saturating_sub(1)
}

/// Alternatives for the numbers from one to another, without zeros before them.
fn between(from: u64, to: u64) -> String {
    let mut found = Vec::new();
    if from == 0 {
        found.push("0".to_owned());
    }
    let mut from = from.max(1);
    while from <= to {
        let digits = from.ilog10() + 1;
        let last = nines(digits).min(to);
        let begins_a_length = from == 10_u64.saturating_pow(digits - 1);
        // From here on all numbers of these lengths.
        let lengths = (digits..=20).take_while(|length| begins_a_length && nines(*length) <= to).last();
        if let Some(longest) = lengths {
            found.push(format!("[1-9]{}", repeated(digits - 1, longest - 1)));
            from = nines(longest) + 1;
        } else {
            same_length(from, last, digits, "", &mut found);
            from = last + 1;
        }
    }
    found.join("|")
}

/// The numbers from one to another, both of so many digits (zeros before them count here), after a beginning.
fn same_length(from: u64, to: u64, digits: u32, begin: &str, found: &mut Vec<String>) {
    let Some(tail) = digits.checked_sub(1) else {
        found.push(begin.to_owned());
        return;
    };
    let step = 10_u64.saturating_pow(tail);
    let (first, last) = (from / step, to / step);
    if first == last {
        same_length(from % step, to % step, tail, &format!("{begin}{first}"), found);
        return;
    }
    let (mut whole_from, mut whole_to) = (first, last);
    if !from.is_multiple_of(step) {
        same_length(from % step, step - 1, tail, &format!("{begin}{first}"), found);
        whole_from += 1;
    }
    let ends_early = to % step != step - 1;
    if ends_early {
        whole_to -= 1;
    }
    if whole_from == whole_to {
        found.push(format!("{begin}{whole_from}{}", repeated(tail, tail)));
    } else if whole_from < whole_to {
        found.push(format!("{begin}[{whole_from}-{whole_to}]{}", repeated(tail, tail)));
    }
    if ends_early {
        same_length(0, to % step, tail, &format!("{begin}{last}"), found);
    }
}

/// So many digits of any value.
fn repeated(least: u32, most: u32) -> String {
    match (least, most) {
        (0, 0) => String::new(),
        (1, 1) => "[0-9]".to_owned(),
        _ if least == most => format!("[0-9]{{{least}}}"),
        _ => format!("[0-9]{{{least},{most}}}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use regex::Regex;

    use super::*;
    use crate::api::directives::bounded::Bound;
    use redis_node::memory_size::bytes;
    use strum::IntoEnumIterator as _;

    /// Whether a shape takes a value, by both of its forms.
    fn takes(shape: Shape, value: &str) -> bool {
        let pattern = shape.pattern();
        let by_pattern = Regex::new(&pattern).unwrap().is_match(value);
        assert_eq!(shape.allows(value), by_pattern, "{value:?} {pattern}");
        by_pattern
    }

    fn shapes() -> impl Strategy<Value = Shape> {
        let shapes: Vec<Shape> = Bound::iter().map(Bound::shape).collect();
        prop_oneof![
            proptest::sample::select(shapes),
            (any::<bool>(), 0..2000_u64, proptest::option::of(0..200_000_u64)).prop_map(
                |(zero, least, most)| Shape::Number { zero, least, most: most.map(|m| m.max(least)) }
            ),
            (0..3_000_000_000_u64, any::<bool>()).prop_map(|(least, zero)| Shape::Size { least, zero }),
        ]
    }

    proptest! {
        #[test]
        fn both_forms_agree_on_numbers_and_sizes(shape in shapes(), value in "[0-9]{1,4}|0?[0-9]{1,20}(b|[kKmMgG][bB]?|%|tb)?") {
            takes(shape, &value);
        }

        #[test]
        fn both_forms_agree_on_limits(
            value in "( ?(normal|NORMAL|replica|Slave|pubsub|master)( {1,2}(0|[0-9]{1,9}|0?[1-9][0-9]{0,3}(mb|kb|M|g))){2,3} [0-9]{1,3}){1,2} ?"
        ) {
            takes(Bound::OutputBuffers.shape(), &value);
        }

        #[test]
        fn both_forms_agree_on_anything(shape in shapes(), value in "[ -~]{0,70}") {
            takes(shape, &value);
        }

        #[test]
        fn a_range_is_a_range(from in 0..30_000_u64, length in 0..30_000_u64, number in 0..70_000_u64) {
            let pattern = Regex::new(&format!("^({})$", between(from, from + length))).unwrap();
            let numbers: BTreeSet<u64> = [number, from, from + length, from + length + 1, from.saturating_sub(1)].into();
            for number in numbers {
                let is_inside = (from..=from + length).contains(&number);
                prop_assert_eq!(pattern.is_match(&number.to_string()), is_inside, "{} {} {}", from, length, number);
            }
        }

        #[test]
        fn sizes_are_worth_what_redis_reads(number in 0..2_000_000_u64, unit in "(b|[kKmMgG][bB]?)?", least in 0..3_000_000_000_u64) {
            let text = format!("{number}{unit}");
            let is_enough = bytes(&text).unwrap() >= least;
            prop_assert_eq!(takes(Shape::Size { least, zero: false }, &text), is_enough);
        }
    }

    #[test]
    fn only_plain_spellings() {
        let size = Shape::Size { least: 8 << 20, zero: true };
        for (value, is_fine) in [
            ("0", true),
            ("0mb", true),
            ("8mb", true),
            ("8MB", true),
            ("8388608", true),
            ("8388607", false),
            ("7mb", false),
            ("8m", false),
            ("9m", true),
            ("8192kb", true),
            ("1g", true),
            ("999999999gb", true),
            ("9999999999gb", false),
            ("", false),
            ("mb", false),
            ("08mb", false),
            (" 8mb", false),
            ("8 mb", false),
            ("\"8mb\"", false),
            ("8tb", false),
            ("1.5gb", false),
            ("-1", false),
            ("50%", false),
        ] {
            assert_eq!(takes(size, value), is_fine, "{value:?}");
        }
    }

    #[test]
    fn patterns_can_be_read() {
        let number = |zero, least, most| Shape::Number { zero, least, most }.pattern();
        assert_eq!(number(false, 64, None), "^(6[4-9]|[7-9][0-9]|[1-9][0-9]{2,8})$");
        assert_eq!(number(true, 30, None), "^(0|[3-9][0-9]|[1-9][0-9]{2,8})$");
        assert_eq!(number(false, 1, Some(10)), "^([1-9]|10)$");
        assert_eq!(number(false, 0, Some(8)), "^(0|[1-8])$");
        assert_eq!(number(false, 1, Some(5000)), "^([1-9][0-9]{0,2}|[1-4][0-9]{3}|5000)$");
    }
}
