//! One line of IRC: tags, prefix, command or number, parameters (RFC 1459 section 2.3).

/// A message.
#[derive(Debug)]
pub(super) struct Message<'l> {
    /// Number of a server's reply.
    pub code: Option<u32>,
    /// The command in upper case; empty when there is a number.
    pub command: Vec<u8>,
    /// All that stands behind it.
    pub params: &'l [u8],
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing to speak of: tags and no message.
    Empty,
    Short,
    NoMessage,
    ShortMessage,
    Number,
    DccFormat,
    DccHost,
    DccPort(u64),
}

/// A request to fetch something directly.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dcc<'l> {
    /// `SEND`, `CHAT` …
    pub kind: &'l [u8],
    pub file_name: &'l [u8],
    pub host: u32,
    pub port: u16,
    /// Bytes of the file.
    pub size: u64,
}

impl Fault {
    /// Its name in weird.log.
    pub(super) const fn weird(self) -> Option<&'static str> {
        match self {
            Self::Empty => None,
            Self::Short => Some("irc_line_too_short"),
            Self::NoMessage | Self::ShortMessage => Some("irc_invalid_line"),
            Self::Number => Some("irc_invalid_reply_number"),
            Self::DccFormat => Some("irc_invalid_dcc_message_format"),
            Self::DccHost => Some("irc_invalid_dcc_host"),
            Self::DccPort(_) => Some("irc_invalid_dcc_port"),
        }
    }

    /// Why it is no IRC.
    pub(super) const fn violation(self) -> Option<&'static str> {
        match self {
            Self::ShortMessage => Some("line too short"),
            Self::Number => Some("invalid reply number"),
            _ => None,
        }
    }
}

impl<'l> Message<'l> {
    /// Reads a line.
    pub(super) fn read(line: &'l [u8]) -> Result<Self, Fault> {
        const LEN_MIN: usize = 3;
        let mut rest = skip_spaces(line);
        if rest.len() < LEN_MIN {
            return Err(Fault::Short);
        }
        let space = |text: &[u8]| text.iter().position(|byte| *byte == b' ');
        if rest.first() == Some(&b'@') {
            let end = space(rest).ok_or(Fault::Empty)?;
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        if rest.first() == Some(&b':') {
            let end = space(rest).ok_or(Fault::NoMessage)?;
            rest = skip_spaces(rest.get(end + 1..).unwrap_or_default());
        }
        if rest.len() < LEN_MIN {
            return Err(Fault::ShortMessage);
        }
        match rest {
            [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b' ', params @ ..] => {
                let digit = |digit: &u8| u32::from(digit - b'0');
                let code = digit(a) * 100 + digit(b) * 10 + digit(c);
                let code = Some(code).filter(|code| *code > 0);
                Ok(Self { code, command: Vec::new(), params })
            }
            [b'0'..=b'9', ..] => Err(Fault::Number),
            _ => {
                let end = space(rest).unwrap_or(rest.len());
                let (command, params) = rest.split_at_checked(end).unwrap_or((rest, &[]));
                let params = skip_spaces(params);
                Ok(Self { code: None, command: command.to_ascii_uppercase(), params })
            }
        }
    }
}

/// The words between `split`s.
pub(super) fn words(text: &[u8], split: u8) -> Vec<&[u8]> {
    text.split(|byte| *byte == split).filter(|word| !word.is_empty()).collect()
}

/// The direct transfer that a private message asks for, if it is one.
pub(super) fn dcc(text: &[u8]) -> Option<Result<Dcc<'_>, Fault>> {
    /// Around messages to the program instead of its user.
    const QUOTE: u8 = 1;
    let text = skip_spaces(text);
    let text = text.strip_prefix(b":").unwrap_or(text);
    let text = text.strip_prefix(&[QUOTE]).unwrap_or(text);
    if text.len() <= 3 || !text.starts_with(b"DCC") {
        return None;
    }
    let text = text.strip_suffix(&[QUOTE]).unwrap_or(text);
    Some(read_dcc(&words(text, b' ')))
}

fn read_dcc<'l>(words: &[&'l [u8]]) -> Result<Dcc<'l>, Fault> {
    let (&[_, kind, file_name, host, port], more) =
        words.split_first_chunk::<5>().ok_or(Fault::DccFormat)?;
    let size = match more {
        [] => 0,
        // A `T` at the end asks for a faster way to send.
        [size] | [size, b"T"] => leading_number(size).unwrap_or(0),
        _ => return Err(Fault::DccFormat),
    };
    let host = leading_number(host).and_then(|host| u32::try_from(host).ok());
    let host = host.ok_or(Fault::DccHost)?;
    let port = leading_number(port).ok_or(Fault::DccPort(0))?;
    let port = u16::try_from(port).map_err(|_| Fault::DccPort(port))?;
    Ok(Dcc { kind, file_name, host, port, size })
}

fn leading_number(text: &[u8]) -> Option<u64> {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let digits = text.get(..len).filter(|digits| !digits.is_empty())?;
    Some(digits.iter().fold(0u64, |value, digit| {
        value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    }))
}

fn skip_spaces(text: &[u8]) -> &[u8] {
    text.get(text.iter().take_while(|byte| **byte == b' ').count()..).unwrap_or_default()
}

/// Whether a client may say `command`.
pub(super) fn is_client_command(command: &[u8]) -> bool {
    const COMMANDS: [&str; 51] = [
        "ADMIN", "AWAY", "CNOTICE", "CPRIVMSG", "CONNECT", "DIE", "ENCAP", "ERROR", "INFO",
        "INVITE", "ISON", "JOIN", "KICK", "KILL", "KNOCK", "LINKS", "LIST", "LUSERS", "MODE",
        "MOTD", "NAMES", "NICK", "NOTICE", "OPER", "PART", "PASS", "PING", "PONG", "PRIVMSG",
        "QUIT", "REHASH", "RULES", "SERVER", "SERVICE", "SERVLIST", "SETNAME", "SILENCE", "SQUERY",
        "SQUIT", "STATS", "SUMMON", "TIME", "TOPIC", "TRACE", "USER", "USERHOST", "USERS",
        "VERSION", "WALLOPS", "WHO", "WHOIS",
    ];
    let more: [&[u8]; 2] = [b"WHOWAS", b"STARTTLS"];
    COMMANDS.iter().any(|known| known.as_bytes() == command) || more.contains(&command)
}

/// What is wrong with the parameters of a command that is not logged.
pub(super) fn fault_of_command(command: &[u8], params: &[u8]) -> Option<&'static str> {
    let count = words(params, b' ').len();
    let has_text = params.contains(&b' ');
    match command {
        b"NOTICE" if !has_text => Some("irc_invalid_notice_message_format"),
        b"SQUERY" if !has_text => Some("irc_invalid_squery_message_format"),
        b"OPER" if count != 2 => Some("irc_invalid_oper_message_format"),
        b"KICK" if count < 2 => Some("irc_invalid_kick_message_format"),
        b"NJOIN" if count != 2 => Some("irc_invalid_njoin_line"),
        b"WHO" if count > 2 => Some("irc_invalid_who_message_format"),
        b"WHOIS" if count == 0 || count > 2 => Some("irc_invalid_whois_message_format"),
        b"INVITE" if count != 2 => Some("irc_invalid_invite_message_format"),
        b"MODE" if params.is_empty() => Some("irc_invalid_mode_message_format"),
        _ => None,
    }
}

/// What is wrong with the parameters of a reply.
pub(super) fn fault_of_reply(code: u32, params: &[u8]) -> Option<&'static str> {
    let count = words(params, b' ').len();
    match code {
        353 if count < 3 => Some("irc_invalid_names_line"),
        311 if count < 4 => Some("irc_invalid_whois_user_line"),
        313 if count < 2 => Some("irc_invalid_whois_operator_line"),
        319 if count < 2 => Some("irc_invalid_whois_channel_line"),
        332 if count < 4 => Some("irc_invalid_topic_reply"),
        352 if count < 9 => Some("irc_invalid_who_line"),
        _ => None,
    }
}
