//! Configuration files of the releases that hosts have, read in one call per host.

use std::collections::{BTreeMap, BTreeSet};

use tyto_core::config::name::HostName;

use crate::hosts::{Host, Hosts};
use crate::remote::Input;
use crate::remote::error::RemoteError;
use crate::remote::shell::quote_path;

/// Starts the line before each file; configurations have none such.
const MARK: &str = "#tyto file ";

/// Content by release and path inside the release. What is not there has no entry.
pub type Texts = BTreeMap<(String, String), String>;

/// Reads the files that are wanted of each host. A host that does not answer has an error.
pub async fn fetch(
    hosts: &Hosts,
    wanted: &BTreeMap<HostName, BTreeSet<(String, String)>>,
) -> Vec<(HostName, Result<Texts, RemoteError>)> {
    let mut asked = hosts.clone();
    asked.retain(|host| wanted.get(&host.name).is_some_and(|files| !files.is_empty()));
    asked
        .each(|host| {
            let files = wanted.get(&host.name).cloned().unwrap_or_default();
            async move { fetch_from(&host, &files).await }
        })
        .await
}

async fn fetch_from(host: &Host, files: &BTreeSet<(String, String)>) -> Result<Texts, RemoteError> {
    let script = format!(
        "cd {} 2>/dev/null || exit 0; while read -r r f; do [ -f \"$r/$f\" ] || continue; \
         printf '{MARK}%s %s\\n' \"$r\" \"$f\"; cat \"$r/$f\"; done",
        quote_path(&host.layout.releases())
    );
    let list: String = files.iter().map(|(release, path)| format!("{release} {path}\n")).collect();
    let input = Input::Bytes(list.as_bytes());
    let output = host.remote.must("read configurations", &script, input, host.deadline).await?;
    Ok(parse(&output.stdout_text()))
}

fn parse(answer: &str) -> Texts {
    let mut texts = Texts::new();
    for file in answer.split(MARK).skip(1) {
        let (place, text) = file.split_once('\n').unwrap_or((file, ""));
        if let Some((release, path)) = place.split_once(' ') {
            texts.insert((release.to_owned(), path.to_owned()), text.to_owned());
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn files_come_back_whole_and_empty_ones_too() {
        let texts = parse("#tyto file aa etc/host.yaml\nhost: h\n\n#tyto file bb etc/x\n");
        let text =
            |release: &str, path: &str| texts[&(release.to_owned(), path.to_owned())].clone();
        assert_eq!(text("aa", "etc/host.yaml"), "host: h\n\n");
        assert_eq!(text("bb", "etc/x"), "");
    }
}
