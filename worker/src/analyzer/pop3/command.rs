//! POP3 commands and answers (RFC 1939, 2449, 2595, 5034), told apart as Zeek does.

/// The first word of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// `+OK`.
    Ok,
    /// `-ERR`.
    Err,
    /// USER.
    User,
    /// PASS.
    Pass,
    /// APOP.
    Apop,
    /// AUTH.
    Auth,
    /// LIST.
    List,
    /// RETR.
    Retr,
    /// QUIT.
    Quit,
    /// TOP.
    Top,
    /// CAPA.
    Capa,
    /// UIDL.
    Uidl,
    /// STLS.
    Stls,
    /// STAT, DELE, RSET, NOOP, LAST, XSENDER: answered with one line.
    Simple,
}

/// The words in the order in which Zeek looks for them.
const WORDS: [(&str, Word); 19] = [
    ("OK", Word::Ok),
    ("ERR", Word::Err),
    ("USER", Word::User),
    ("PASS", Word::Pass),
    ("APOP", Word::Apop),
    ("AUTH", Word::Auth),
    ("STAT", Word::Simple),
    ("LIST", Word::List),
    ("RETR", Word::Retr),
    ("DELE", Word::Simple),
    ("RSET", Word::Simple),
    ("NOOP", Word::Simple),
    ("LAST", Word::Simple),
    ("QUIT", Word::Quit),
    ("TOP", Word::Top),
    ("CAPA", Word::Capa),
    ("UIDL", Word::Uidl),
    ("STLS", Word::Stls),
    ("XSENDER", Word::Simple),
];

impl Word {
    /// The word that `text` is. One sign is taken off for each word that it is not.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let mut text = text;
        WORDS.iter().find_map(|(name, word)| {
            if let Some((b'+' | b'-', rest)) = text.split_first() {
                text = rest;
            }
            text.eq_ignore_ascii_case(name.as_bytes()).then_some(*word)
        })
    }
}

/// A line without blanks at its ends and with one between its words, up to a NUL; its first word
/// and the rest.
pub(super) fn split(line: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let len = line.iter().position(|&byte| byte == 0).unwrap_or(line.len());
    let line = line.get(..len).unwrap_or_default().trim_ascii_start();
    let mut words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    let first = words.next().unwrap_or_default().to_vec();
    let rest: Vec<&[u8]> = words.collect();
    (first, rest.join(&b' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_known_behind_their_sign() {
        assert_eq!(Word::parse(b"+OK"), Some(Word::Ok));
        assert_eq!(Word::parse(b"-ERR"), Some(Word::Err));
        assert_eq!(Word::parse(b"--ERR"), Some(Word::Err));
        assert_eq!(Word::parse(b"++OK"), None);
        assert_eq!(Word::parse(b"retr"), Some(Word::Retr));
        assert_eq!(Word::parse(b""), None);
    }

    #[test]
    fn a_line_is_its_first_word_and_the_rest() {
        assert_eq!(split(b"  LIST   1  2 "), (b"LIST".to_vec(), b"1 2".to_vec()));
        assert_eq!(split(b"QUIT"), (b"QUIT".to_vec(), Vec::new()));
    }
}
