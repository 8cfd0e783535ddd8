//! Words of a server that may be anybody's, made fit for a status, an Event or a line of a log.

/// Most characters that are kept.
const LONGEST: usize = 256;

/// The text with a `?` for each character that is not printable ASCII: none of Redis' own words has another, and others could
/// begin a line of their own in a log, or write to the terminal of whoever reads it. A long text is cut.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_printable_ascii_is_left() {
        assert_eq!(plain("redis-0.redis-headless.lab.svc"), "redis-0.redis-headless.lab.svc");
        assert_eq!(plain("a\nb\u{1b}[31m\u{202e}é\u{7f}"), "a?b?[31m???");
        assert_eq!(plain(&"x".repeat(1 << 20)).len(), LONGEST);
    }
}
