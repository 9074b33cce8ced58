//! Which lines differ between two texts, as `diff -u` shows it: `-` before, `+` after, and a few
//! lines around. Pure.

/// Equal lines shown around a difference.
const CONTEXT_LINES: usize = 3;
/// Lines of each text, without what is equal at both ends, up to which the smallest difference is
/// searched; longer ones are shown as a whole. The table of the search is as large as its square.
const SEARCHED_LINES_MAX: usize = 2000;

/// One line of the difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line<'a> {
    Same(&'a str),
    Old(&'a str),
    New(&'a str),
}

/// The difference, nothing when there is none.
pub fn difference(name: &str, old: &str, new: &str) -> Vec<String> {
    if old == new {
        return Vec::new();
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let all = lines(&old, &new);
    let mut shown = vec![format!("--- {name}"), format!("+++ {name}")];
    let differs = |at: usize| all.get(at).is_some_and(|line| !matches!(line, Line::Same(_)));
    let mut last_shown = None;
    for (at, line) in all.iter().enumerate() {
        let near = at.saturating_sub(CONTEXT_LINES)..=at + CONTEXT_LINES;
        if !near.into_iter().any(differs) {
            continue;
        }
        if last_shown.is_some_and(|last| last + 1 != at) {
            shown.push("...".to_owned());
        }
        last_shown = Some(at);
        shown.push(match line {
            Line::Same(text) => format!(" {text}"),
            Line::Old(text) => format!("-{text}"),
            Line::New(text) => format!("+{text}"),
        });
    }
    shown
}

fn lines<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (&old[start..], &new[start..]);
    let end = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old_mid, new_mid) = (&old_rest[..old_rest.len() - end], &new_rest[..new_rest.len() - end]);
    let mut all: Vec<Line<'_>> = old[..start].iter().map(|line| Line::Same(line)).collect();
    if old_mid.len().max(new_mid.len()) > SEARCHED_LINES_MAX {
        all.extend(old_mid.iter().map(|line| Line::Old(line)));
        all.extend(new_mid.iter().map(|line| Line::New(line)));
    } else {
        all.extend(smallest(old_mid, new_mid));
    }
    all.extend(old_rest[old_rest.len() - end..].iter().map(|line| Line::Same(line)));
    all
}

/// By the longest common subsequence: `kept[i][j]` is its length from lines `i` and `j` on.
fn smallest<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Line<'a>> {
    let mut kept = vec![vec![0_u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            kept[i][j] = match old[i] == new[j] {
                true => kept[i + 1][j + 1] + 1,
                false => kept[i + 1][j].max(kept[i][j + 1]),
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(Line::Same(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || i < old.len() && kept[i + 1][j] >= kept[i][j + 1] {
            lines.push(Line::Old(old[i]));
            i += 1;
        } else {
            lines.push(Line::New(new[j]));
            j += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_changed_is_shown_with_a_few_lines_around() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\n";
        let new = "a\nb\nc\nd\ne\nF\ng\nh\ni\nj\nk\nl\n";
        assert_eq!(
            difference("node.cfg", old, new),
            [
                "--- node.cfg",
                "+++ node.cfg",
                " c",
                " d",
                " e",
                "-f",
                "+F",
                " g",
                " h",
                " i",
                " j",
                " k",
                "+l"
            ]
        );
        assert_eq!(difference("x", old, old), Vec::<String>::new());
        assert_eq!(difference("x", "", "a\n"), ["--- x", "+++ x", "+a"]);
    }

    #[test]
    fn differences_far_apart_are_told_apart() {
        let old: String = (0..20).map(|n| format!("{n}\n")).collect();
        let new = old.replace("2\n", "two\n").replace("19\n", "");
        assert!(difference("x", &old, &new).contains(&"...".to_owned()));
    }

    proptest! {
        #[test]
        fn both_texts_can_be_read_from_the_difference(
            old in prop::collection::vec("[abc]", 0..12), new in prop::collection::vec("[abc]", 0..12)
        ) {
            let (old, new): (Vec<&str>, Vec<&str>) =
                (old.iter().map(String::as_str).collect(), new.iter().map(String::as_str).collect());
            let all = lines(&old, &new);
            let side = |want_old: bool| -> Vec<&str> {
                all.iter().filter_map(|line| match line {
                    Line::Same(text) => Some(*text),
                    Line::Old(text) => want_old.then_some(*text),
                    Line::New(text) => (!want_old).then_some(*text),
                }).collect()
            };
            prop_assert_eq!(side(true), old);
            prop_assert_eq!(side(false), new);
        }
    }
}
