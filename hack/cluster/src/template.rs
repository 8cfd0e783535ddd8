//! Fills `{{name}}` in the files of `config/`.

use anyhow::{Result, bail};

/// Replaces every `{{name}}`; a name without a value, or a value without its name, is a mistake.
pub fn fill(template: &str, values: &[(&str, &str)]) -> Result<String> {
    let mut text = template.to_owned();
    for (name, value) in values {
        let mark = format!("{{{{{name}}}}}");
        if !text.contains(&mark) {
            bail!("the template has no {mark}");
        }
        text = text.replace(&mark, value);
    }
    if let Some((_, rest)) = text.split_once("{{") {
        bail!("the template's {{{{{}… has no value", rest.chars().take(20).collect::<String>());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_every_place() {
        assert_eq!(fill("{{a}}-{{b}}-{{a}}", &[("a", "1"), ("b", "2")]).unwrap(), "1-2-1");
    }

    #[test]
    fn names_and_values_have_to_match() {
        assert!(fill("{{a}}", &[]).unwrap_err().to_string().contains("{{a"));
        assert!(fill("x", &[("a", "1")]).unwrap_err().to_string().contains("{{a}}"));
    }
}
