//! SMTP commands (RFC 5321, 3030, 3207, 4954) and what they and their replies do to a session.

/// A command, or something that is answered like one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// The connection itself, which the greeting answers.
    Connect,
    /// HELO, EHLO.
    Hello,
    /// MAIL, SEND, SOML, SAML.
    Mail,
    /// RCPT.
    Recipient,
    /// DATA.
    Data,
    /// BDAT.
    Bdat,
    /// The line with nothing but a dot, or the end of the last chunk.
    EndOfData,
    /// RSET, QUIT: the transaction is over.
    Reset,
    /// AUTH.
    Auth,
    /// What answers a challenge.
    AuthAnswer,
    /// TURN.
    Turn,
    /// STARTTLS, X-ANONYMOUSTLS.
    StartTls,
    /// Those that change nothing.
    Other,
}

impl Command {
    /// The command that `word` names.
    pub(super) fn parse(word: &[u8]) -> Option<Self> {
        let words: [(&str, Self); 20] = [
            ("EHLO", Self::Hello),
            ("HELO", Self::Hello),
            ("MAIL", Self::Mail),
            ("RCPT", Self::Recipient),
            ("DATA", Self::Data),
            ("QUIT", Self::Reset),
            ("RSET", Self::Reset),
            ("VRFY", Self::Other),
            ("EXPN", Self::Other),
            ("HELP", Self::Other),
            ("NOOP", Self::Other),
            ("STARTTLS", Self::StartTls),
            ("X-ANONYMOUSTLS", Self::StartTls),
            ("SEND", Self::Mail),
            ("SOML", Self::Mail),
            ("SAML", Self::Mail),
            ("TURN", Self::Turn),
            ("BDAT", Self::Bdat),
            ("ETRN", Self::Other),
            ("AUTH", Self::Auth),
        ];
        let found = words.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, command)| *command)
    }
}

/// What the sender's next line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A command.
    Commands,
    /// A line of the message.
    Data,
    /// Bytes of a chunk, or the next BDAT.
    Bdat,
    /// The answer to a challenge.
    Auth,
    /// Not SMTP any more.
    Tls,
    /// Anything: bytes were missed.
    AfterGap,
    /// A command, but which one the last reply answered is not known.
    GapRecovery,
}

/// What a reply asks the session to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing but to be in this state.
    Be(State),
    /// Begin a message.
    BeginData,
    /// End the message that began too early; commands follow.
    RefuseData,
    /// The receiver sends from now on.
    Turn,
    /// TLS follows.
    StartTls,
}

/// What the reply `code` to `command` does to a session in `state`.
pub(super) fn replied(command: Option<Command>, code: u16, state: State) -> Action {
    let same = Action::Be(state);
    match (command, code) {
        (Some(Command::Connect), 421 | 554)
        | (Some(Command::Hello), 421 | 500 | 501 | 504 | 550)
        | (Some(Command::EndOfData), _) => Action::Be(State::Commands),
        (Some(Command::Mail), 421 | 451 | 452 | 500 | 501 | 503 | 550 | 552 | 553)
            if state != State::Data =>
        {
            Action::Be(State::Commands)
        }
        (Some(Command::Data), 354) => same,
        (Some(Command::Data), _) => Action::RefuseData,
        (Some(Command::Auth | Command::AuthAnswer), 334) => Action::Be(State::Auth),
        (Some(Command::Auth | Command::AuthAnswer), _) => Action::Be(State::Commands),
        (Some(Command::Turn), 250) => Action::Turn,
        (Some(Command::StartTls), 220) => Action::StartTls,
        (Some(Command::Other) | None, 354) if state == State::GapRecovery => Action::BeginData,
        _ => same,
    }
}

/// The argument of BDAT (RFC 3030 section 2): bytes of the chunk, and whether it is the last.
pub(super) fn bdat_argument(argument: &[u8]) -> Result<(u64, bool), &'static str> {
    /// The largest number and ` LAST`.
    const ARGUMENT_BYTES_MAX: usize = 25;
    if argument.is_empty() || argument.len() > ARGUMENT_BYTES_MAX {
        return Err("BDAT argument bad length");
    }
    let digits = argument.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = argument.split_at_checked(digits).unwrap_or_default();
    if number.is_empty() {
        return Err("BDAT not followed by a valid chunk-size");
    }
    if !matches!(rest.first(), None | Some(b' ' | 0)) {
        return Err("BDAT chunk-size not valid");
    }
    let number = std::str::from_utf8(number).unwrap_or_default();
    let chunk_bytes = number.parse().map_err(|_| "BDAT chunk-size too large")?;
    match rest {
        [] => Ok((chunk_bytes, false)),
        _ if rest.eq_ignore_ascii_case(b" LAST") => Ok((chunk_bytes, true)),
        _ => Err("BDAT chunk-size followed by junk"),
    }
}
