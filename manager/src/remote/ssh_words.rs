//! What ssh says when no connection comes about, sorted by what the operator has to do about
//! it. ssh has one exit code for everything; its words (OpenSSH 7 to 10) are all there is.

use super::error::RemoteError;

/// Most characters of ssh's words that an error repeats.
const SAID_CHARS_MAX: usize = 500;

/// What keeps `host` from being reached, from all that ssh said.
pub(super) fn error(host: &str, said: &str) -> RemoteError {
    let host = host.to_owned();
    let has = |text: &str| said.contains(text);
    let short = last_line(said);
    if has("REMOTE HOST IDENTIFICATION HAS CHANGED") || has("host key has changed") {
        let known_as = between(said, "Host key for ", " has changed").unwrap_or(&host).to_owned();
        RemoteError::HostKeyChanged { known_as, place: offending(said), host }
    } else if has("Host key verification failed") || has("host key is known for") {
        let known_as = between(said, "host key is known for ", " and you");
        let known_as = known_as.unwrap_or(&host).to_owned();
        RemoteError::HostKeyUnknown { known_as, host }
    } else if has("Permission denied") || has("Too many authentication failures") {
        match between(&short, "Permission denied (", ")") {
            Some(methods) if !methods.split(',').any(|method| method == "publickey") => {
                RemoteError::PasswordOnly { host, methods: methods.replace(',', " or ") }
            }
            _ => RemoteError::LoginRefused { host, said: short },
        }
    } else if has("Could not resolve hostname") {
        RemoteError::NoAddress { host, said: short }
    } else {
        RemoteError::Unreachable { host, said: short }
    }
}

/// True when sshd closed before it said who it is: so it does while too many others are at the
/// same point (MaxStartups), and a moment later it may have a place.
pub(super) fn is_turned_away(said: &str) -> bool {
    said.contains("kex_exchange_identification:")
        || said.contains("ssh_exchange_identification:")
        || said.contains("Not allowed at this time")
}

/// True when the connection went through another program than ssh itself, whose own words ssh
/// does not tell.
pub(super) fn is_behind_another(said: &str) -> bool {
    said.contains("UNKNOWN port 65535")
}

/// True when sshd takes no further session on a connection (MaxSessions).
pub(super) fn is_session_refused(said: &str) -> bool {
    said.contains("refused by peer")
        || said.contains("open failed")
        || said.contains("Session open refused")
}

/// The last line with something on it; ssh tells its reason there.
pub(super) fn last_line(text: &str) -> String {
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    line.unwrap_or("no reason given").chars().take(SAID_CHARS_MAX).collect()
}

/// `Offending ED25519 key in /root/.ssh/known_hosts:3`: the file and line.
fn offending(said: &str) -> Option<String> {
    let line = said.lines().find(|line| line.starts_with("Offending "))?;
    line.split_once(" in ").map(|(_, place)| place.trim().to_owned())
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(inner, _)| inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGED: &str = "\
        @@@@@@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n\
        Add correct host key in /e/known to get rid of this message.\n\
        Offending ED25519 key in /e/known:3\n\
        Host key for [10.0.0.1]:2222 has changed and you have requested strict checking.\n\
        Host key verification failed.\n";

    #[test]
    fn a_changed_key_names_the_line_and_the_commands() {
        let error = error("a", CHANGED);
        assert!(error.to_string().contains("/e/known:3"), "{error}");
        let hint = error.hint().unwrap();
        assert!(hint.contains("`ssh-keygen -f /e/known -R '[10.0.0.1]:2222'`"), "{hint}");
        assert!(hint.contains("`ssh-keyscan -p 2222 10.0.0.1`"), "{hint}");
    }

    #[test]
    fn an_unknown_key_is_another_error_with_its_own_command() {
        let said = "No ED25519 host key is known for 10.0.0.1 and you have requested strict \
                    checking.\nHost key verification failed.";
        let error = error("a", said);
        assert!(matches!(error, RemoteError::HostKeyUnknown { .. }), "{error}");
        assert!(error.hint().unwrap().contains("`ssh-keyscan 10.0.0.1`"));
    }

    #[test]
    fn who_takes_passwords_only_is_not_told_to_have_refused_a_key() {
        let only = error("a", "root@a: Permission denied (password,keyboard-interactive).");
        let text = only.to_string();
        assert!(text.contains("password or keyboard-interactive only"), "{text}");
        let refused = error("a", "root@a: Permission denied (publickey,password).");
        assert!(matches!(refused, RemoteError::LoginRefused { .. }), "{refused}");
    }
}
