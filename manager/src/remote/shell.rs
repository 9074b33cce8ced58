//! Text that becomes one word of a POSIX shell command.

use std::path::Path;

/// `text` as one word, whatever it holds, for the shells a login may have (sh, bash, zsh, dash).
pub fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@%+,".contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        return text.to_owned();
    }
    // Between single quotes all is literal but the single quote itself.
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A path as one word.
pub fn quote_path(path: &Path) -> String {
    quote(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::quote;

    fn through_sh(text: &str) -> Vec<u8> {
        let script = format!("printf %s {}", quote(text));
        Command::new("sh").arg("-c").arg(script).output().unwrap().stdout
    }

    #[test]
    fn hostile_words_stay_words() {
        for word in ["", "a b", "$(id)", "`id`", "a'b", "';id;'", "a\nb", "\\", "*", "-n", "~"] {
            assert_eq!(through_sh(word), word.as_bytes(), "{word:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_text_comes_out_as_it_went_in(text in "[^\0]{0,40}") {
            prop_assert_eq!(through_sh(&text), text.as_bytes());
        }
    }
}
