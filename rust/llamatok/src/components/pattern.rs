//! What `Replace` searches for, as a normalizer and as a decoder.

use std::ops::Range;

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// A text, not empty.
    String(String),
    /// A regular expression of the one kind that is supported: a character, as often as it comes, but at
    /// least `min` times (`a+`, `a{2,}`).
    Repeated {
        /// The character.
        character: char,
        /// At least 1.
        min: usize,
        /// The expression as it stands in the file.
        source: String,
    },
}

impl Pattern {
    /// Reads a regular expression; `None` unless it is of the supported kind.
    ///
    /// The HF library hands it to Oniguruma. A character that means nothing else there, followed by `+` or
    /// `{n,}` and nothing more, is the same in all dialects.
    pub fn from_regex(source: &str) -> Option<Self> {
        let character = source.chars().next().filter(|c| !r"\.+*?()|[]{}^$/#&-~".contains(*c))?;
        let min = match &source[character.len_utf8()..] {
            "+" => 1,
            count => {
                let digits = count.strip_prefix('{')?.strip_suffix(",}")?;
                // Oniguruma has a limit of 100,000.
                let is_plain = (1..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
                digits.parse().ok().filter(|&min| is_plain && min > 0)?
            }
        };
        Some(Self::Repeated { character, min, source: source.into() })
    }

    /// The matches in `text`, from left to right, as ranges of bytes; none is empty.
    pub(crate) fn matches<'a>(&'a self, text: &'a str) -> Box<dyn Iterator<Item = Range<usize>> + 'a> {
        match self {
            Self::String(pattern) => {
                let finds = memchr::memmem::find_iter(text.as_bytes(), pattern.as_bytes());
                Box::new(finds.map(|start| start..start + pattern.len()))
            }
            &Self::Repeated { character, min, .. } => {
                let mut start = 0;
                Box::new(std::iter::from_fn(move || loop {
                    start += text[start..].find(character)?;
                    let rest = &text[start..];
                    let run = rest.len() - rest.trim_start_matches(character).len();
                    start += run;
                    if run >= min * character.len_utf8() {
                        return Some(start - run..start);
                    }
                }))
            }
        }
    }

    /// `text` with each match replaced by `content`.
    pub(crate) fn replace(&self, text: &str, content: &str) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut done = 0;
        for found in self.matches(text) {
            replaced.push_str(&text[done..found.start]);
            replaced.push_str(content);
            done = found.end;
        }
        replaced.push_str(&text[done..]);
        replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_whole() {
        let pattern = Pattern::from_regex("a{2,}").unwrap();
        assert_eq!(pattern.replace("a aa aaa aabaa", "x"), "a x x xbx");
        assert_eq!(Pattern::from_regex(" +").unwrap().replace("a   b c ", ""), "abc");
        assert_eq!(Pattern::from_regex("é{3,}").unwrap().replace("ééééé éé", "-"), "- éé");
    }

    #[test]
    fn other_expressions_are_not_supported() {
        for source in
            ["", "a", ".+", r"\s+", "a{2}", "a{,2}", "a{0,}", "a+?", "a{2,}+", "ab+", "[a]+", "a{+2,}"]
        {
            assert_eq!(Pattern::from_regex(source), None, "{source}");
        }
    }
}
