//! Reads the final stage of a Dockerfile, as far as a stage FROM scratch that only copies files goes.

use anyhow::{Context as _, Result, bail};

use super::archive::Settings;

/// The final stage.
#[derive(Debug, PartialEq, Eq)]
pub struct Stage {
    /// Source in the build stage and destination of each COPY.
    pub copies: Vec<(String, String)>,
    /// What the other instructions set.
    pub settings: Settings,
}

/// Parses the last stage of `text`. An instruction that it does not know is an error, so that an image built here
/// cannot silently differ from the one that a container engine builds.
pub fn final_stage(text: &str) -> Result<Stage> {
    let mut stage = None;
    for instruction in instructions(text) {
        let (keyword, rest) = instruction.split_once(char::is_whitespace).unwrap_or((&instruction, ""));
        if keyword.eq_ignore_ascii_case("FROM") {
            stage = Some((rest.trim().to_owned(), Vec::new()));
        } else if let Some((_, lines)) = &mut stage {
            lines.push((keyword.to_ascii_uppercase(), rest.trim().to_owned()));
        }
    }
    let (base, lines) = stage.context("the Dockerfile has no FROM")?;
    if base != "scratch" {
        bail!(
            "the Dockerfile's final stage is FROM {base}; only FROM scratch can be built without an engine"
        );
    }
    let mut stage = Stage { copies: Vec::new(), settings: Settings::default() };
    for (keyword, rest) in lines {
        stage
            .apply(&keyword, &rest)
            .with_context(|| format!("in the Dockerfile's line `{keyword} {rest}`"))?;
    }
    Ok(stage)
}

impl Stage {
    fn apply(&mut self, keyword: &str, rest: &str) -> Result<()> {
        match keyword {
            "COPY" => {
                let words: Vec<_> = rest.split_whitespace().collect();
                match words.as_slice() {
                    [from, sources @ .., target] if from.starts_with("--from=") && !sources.is_empty() => {
                        self.copy(sources, target)?;
                    }
                    _ => bail!("only COPY --from=STAGE SOURCE… TARGET is understood"),
                }
            }
            "USER" => rest.clone_into(&mut self.settings.user),
            "WORKDIR" => rest.clone_into(&mut self.settings.directory),
            "ENTRYPOINT" => self.settings.entrypoint = exec_form(rest)?,
            "CMD" => self.settings.command = exec_form(rest)?,
            "LABEL" => self.settings.labels.extend(pairs(rest)?),
            "ENV" => {
                let pairs = pairs(rest)?.into_iter();
                self.settings.environment.extend(pairs.map(|(name, value)| format!("{name}={value}")));
            }
            "EXPOSE" => {}
            _ => bail!("this instruction is not understood in the final stage"),
        }
        Ok(())
    }

    fn copy(&mut self, sources: &[&str], target: &str) -> Result<()> {
        for source in sources {
            if source.starts_with("--") {
                bail!("the option {source} is not understood");
            }
            let name = source.rsplit('/').next().unwrap_or_default();
            let target = if target.ends_with('/') { format!("{target}{name}") } else { target.to_owned() };
            self.copies.push(((*source).to_owned(), target));
        }
        Ok(())
    }
}

/// Whole instructions: comments dropped, continued lines joined.
fn instructions(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(part) = line.strip_suffix('\\') {
            open.push_str(part);
        } else {
            found.push(std::mem::take(&mut open) + line);
        }
    }
    found
}

fn exec_form(text: &str) -> Result<Vec<String>> {
    serde_json::from_str(text).context("only the form [\"program\", \"argument\"] is understood")
}

/// `name=value` pairs, values with or without double quotes.
fn pairs(text: &str) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').context("a name without `=`")?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').context("a quote is not closed")?,
            None => after.split_once(char::is_whitespace).unwrap_or((after, "")),
        };
        found.push((name.to_owned(), value.to_owned()));
        rest = after.trim_start();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
# syntax line
FROM rust:1 AS build
RUN make \
    all
FROM scratch
LABEL org.opencontainers.image.title="redis operator" \
      org.opencontainers.image.licenses=Apache-2.0
COPY --from=build /out/redis-operator /out/agent /
USER 65532:65532
ENTRYPOINT ["/redis-operator"]
"#;

    #[test]
    fn reads_the_last_stage_only() {
        let stage = final_stage(TEXT).unwrap();
        let copies = [("/out/redis-operator", "/redis-operator"), ("/out/agent", "/agent")];
        assert_eq!(stage.copies, copies.map(|(from, to)| (from.to_owned(), to.to_owned())));
        assert_eq!(stage.settings.user, "65532:65532");
        assert_eq!(stage.settings.entrypoint, ["/redis-operator"]);
        let labels = [
            ("org.opencontainers.image.title", "redis operator"),
            ("org.opencontainers.image.licenses", "Apache-2.0"),
        ];
        assert_eq!(stage.settings.labels, labels.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn refuses_what_it_cannot_do() {
        for (text, reason) in [
            ("FROM debian\n", "FROM debian"),
            ("FROM scratch\nRUN true\n", "RUN true"),
            ("FROM scratch\nCOPY a b\n", "COPY a b"),
            ("FROM scratch\nCOPY --from=b --chown=1 a b\n", "--chown=1"),
            ("FROM scratch\nENTRYPOINT /a\n", "ENTRYPOINT /a"),
            ("", "no FROM"),
        ] {
            let error = format!("{:#}", final_stage(text).unwrap_err());
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }
}
